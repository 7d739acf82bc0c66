"""In which order a client sees its samples: the one rule of the fleet and of the simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def seed_from(*facts: object) -> int:
    """A seed that depends on these facts alone, so that repeated work is the same bit for bit."""
    named = " ".join(str(fact) for fact in facts)
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big")


def shuffled(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the indices 0..count-1 in a fresh order, in runs of `size`; the last may be short."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]
