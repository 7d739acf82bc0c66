"""Latency and size of every form of a sub-model against the float32 graph, in one run.

DeiT-Ti size at 65 and 197 tokens, depth 12, exits after 3, 6, 9 and 12 blocks, random weights of 4
bits: latency does not depend on values. All forms take turns in one process, so that other load on
the machine hits them alike. One thread is timed in CPU time, which on an idle core is wall time;
two threads in wall time. The least of all turns counts. Run it with
`python benchmarks/export_latency.py`; it ends with 1 where a figure misses its floor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from export.quantize import quantize
from export.runtimes import Runner, open_runner, run_chain
from export.stages import model_part
from export.targets import Form
from export.variants import SubModel, build_variant
from reefleet.model import ModelSpec, parameter_count, quantized_tensors, tensor_shapes
from reefleet.wire.checkpoint import initial
from reefleet.wire.tensors import pack_tensors

Times = dict[tuple[str, int], float]

DEIT_TINY = ModelSpec(
    image_size=224,
    patch_size=16,
    channels=3,
    width=192,
    heads=3,
    depth=12,
    classes=100,
    exits=(3, 6, 9, 12),
)
SIZES = {"65 tokens": replace(DEIT_TINY, image_size=32, patch_size=4), "197 tokens": DEIT_TINY}
BITS = 4
TURNS = 40
WARM_UP = 3
FORMS = (
    Form("onnx", "float32", staged=False),
    Form("onnx", "float32", staged=True),
    Form("onnx", "int8", staged=False),
    Form("onnx", "int8", staged=True),
    Form("onnx", "packed", staged=False),
    Form("tflite", "float32", staged=False),
    Form("tflite", "float32", staged=True),
    Form("tflite", "int8", staged=False),
    Form("tflite", "int8", staged=True),
)


@dataclass(frozen=True)
class Floor:
    """A promise: a figure and the most it may be."""

    name: str
    found: float
    bound: float


def measured(
    chains: Mapping[tuple[str, int], Sequence[Runner]], image: NDArray[np.float32]
) -> Times:
    """Least time of each chain in milliseconds."""
    best: Times = {}
    for turn in range(TURNS + WARM_UP):
        for (name, threads), runners in chains.items():
            clock = time.thread_time if threads == 1 else time.perf_counter
            begun = clock()
            run_chain(runners, image)
            spent = (clock() - begun) * 1e3
            if turn >= WARM_UP:
                best[name, threads] = min(best.get((name, threads), spent), spent)
    return best


def bench(spec: ModelSpec) -> Iterator[Floor]:
    """Print one table and yield its floors."""
    begun = time.perf_counter()
    weights = quantize(initial(spec, 0), spec, spec.depth, BITS)
    model = SubModel(spec, spec.depth, weights)
    model_part(spec, spec.depth)
    traced = time.perf_counter() - begun
    chains: dict[tuple[str, int], Sequence[Runner]] = {}
    sizes: dict[str, int] = {}
    for form in FORMS:
        variant, files = build_variant(model, form)
        sizes[variant.name] = sum(len(data) for data in files.values())
        for threads in (1, 2):
            runners = [open_runner(variant.runtime, files[f], threads) for f in variant.files]
            chains[variant.name, threads] = runners
            if form.staged:
                chains[f"{variant.name}, first", threads] = runners[:1]
    exported = time.perf_counter() - begun
    shape = (1, spec.channels, spec.image_size, spec.image_size)
    times = measured(chains, np.random.default_rng(0).normal(size=shape).astype(np.float32))
    print(f"{'form':<34}{'1 thread, ms':>13}{'2 threads, ms':>14}{'bytes':>12}")
    for name in dict.fromkeys(name for name, _ in chains):
        two = times.get((name, 2))
        shown = "" if two is None else f"{two:.2f}"
        size = sizes.get(name)
        print(f"{name:<34}{times[name, 1]:>13.2f}{shown:>14}{f'{size:,}' if size else '':>12}")
    print(f"trace {traced:.1f} s; built and opened in all {len(FORMS)} forms, {exported:.1f} s\n")
    yield Floor("onnx int8 / float", times["onnx-int8", 1] / times["onnx-float32", 1], 0.55)
    yield Floor("litert int8 / float", times["tflite-int8", 1] / times["tflite-float32", 1], 0.50)
    yield Floor("onnx int8 file / float file", sizes["onnx-int8"] / sizes["onnx-float32"], 0.28)
    yield Floor("weights.rft / b bits and floats", packed_ratio(model), 1.06)
    yield Floor("export of depth 12, s", exported, 30)
    for form in ("onnx-float32", "onnx-int8", "tflite-float32", "tflite-int8"):
        chain = f"{form}-stages"
        yield Floor(f"{form}: chain / graph", times[chain, 1] / times[form, 1], 1.05)
        yield Floor(f"{form}: first / graph", times[f"{chain}, first", 1] / times[form, 1], 0.30)
        yield Floor(f"{form}: chain / graph, 2 threads", times[chain, 2] / times[form, 2], 1.10)


def packed_ratio(model: SubModel) -> float:
    """Bytes of the packed weights over b bits a quantized weight plus the rest as float32."""
    shapes, coded = tensor_shapes(model.spec), quantized_tensors(model.spec)
    weights = sum(shapes[name][0] * shapes[name][1] for name in coded)
    plain = 4 * (parameter_count(model.spec) - weights) + weights * BITS / 8
    return len(pack_tensors(model.tensors, compress=False)) / plain


def main() -> int:
    """Print both sizes; 1 where a floor is missed."""
    missed = 0
    for name, spec in SIZES.items():
        print(f"DeiT-Ti, {name}")
        for floor in bench(spec):
            kept = floor.found <= floor.bound
            missed += not kept
            state = "ok" if kept else "MISSED"
            print(f"{floor.name:<42}{floor.found:>8.3f} (at most {floor.bound:g}) {state}")
        print(flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
