"""Folding a thousand distinct updates beside a plain numpy sum in place: time and memory.

    python -m benchmarks.aggregation --updates 1000

5.8 million float32 weights in 178 tensors. Both loops get each update as arrays that are there
already; the yardstick does nothing but `total += weight * update`, tensor by tensor.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import DEIT_TI
from benchmarks.processes import peak_mib, verdict
from reefleet.aggregation.mean import HolderMean
from reefleet.model import tensor_shapes

MOST_TIMES = 1.2
BLOCK = 20  # updates that each loop takes by turns: what else the machine does hits both
SHAPES = tensor_shapes(DEIT_TI)
COUNT = sum(math.prod(shape) for shape in SHAPES.values())

Tensors = dict[str, NDArray[np.float32]]


def updates(pool: NDArray[np.float32], first: int, count: int) -> Iterator[Tensors]:
    """Distinct updates: windows on one pool of noise, each begins a value further on."""
    for start in range(first, first + count):
        at = start
        tensors = {}
        for name, shape in SHAPES.items():
            size = math.prod(shape)
            tensors[name] = pool[at : at + size].reshape(shape)
            at += size
        yield tensors


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1000)
    count = parser.parse_args().updates
    pool = np.random.default_rng(0).random(COUNT + count, np.float32)
    rule = HolderMean()
    model = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    plain = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for values in plain.values():
        values.fill(0.0)  # pages are there before the peak is read
    before = peak_mib(os.getpid())
    state = rule.init(model)
    ours = yardstick = 0.0
    for first in range(0, count, BLOCK):
        block = min(BLOCK, count - first)
        begin = time.process_time()
        for update in updates(pool, first, block):
            state = rule.fold(state, update, 3.0)
        middle = time.process_time()
        for update in updates(pool, first, block):
            for name, values in update.items():
                plain[name] += np.float32(3.0) * values
        ours, yardstick = ours + middle - begin, yardstick + time.process_time() - middle
    more = peak_mib(os.getpid()) - before
    ratio, size = ours / yardstick, 4 * COUNT / 2**20
    assert all(np.array_equal(plain[name], state.sums[name]) for name in plain)  # noqa: S101
    print(f"{count} distinct updates of {COUNT:,} weights in {len(SHAPES)} tensors")
    print(f"fold {ours:.2f} s, numpy in place {yardstick:.2f} s: {ratio:.2f} times", end=", ")
    print(f"at most {MOST_TIMES}: {verdict(good=ratio <= MOST_TIMES)}")
    print(f"memory of the state {more:.1f} MiB, one model is {size:.1f} MiB", end=": ")
    small = more <= 1.1 * size + 2
    print(verdict(good=small))
    return 0 if small and ratio <= MOST_TIMES else 1


if __name__ == "__main__":
    sys.exit(main())
