"""What times are linear in, and the coefficients that a board's own benchmark gives them.

A training step runs a fixed number of small operations a block; beyond that it does arithmetic,
keeps values for the backward pass, moves the weights, and with two models quantizes them. What no
longer fits the caches costs extra.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from devices.trained import TRAINED
from reefleet.model import (
    ModelSpec,
    activation_values,
    attention_pairs,
    forward_macs,
    kept_values,
    parameter_count,
    quantized_tensors,
    sent_shapes,
    tensor_shapes,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORKING_SET = 4  # place among the features of a step
TWO_MODEL_PASSES = 3  # the shared copy, the personal one, and the personal one through its codes
STATE_TOUCHES = (1, 2)  # copies of all weights and of the trained ones that a step moves


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds for each unit of the features below, and the relative sigma of what they say.

    `cache_mb` is the working set from which a step gets slower; `answer_float` is empty where only
    int8 answers were timed.
    """

    answer: tuple[float, ...]
    answer_sigma: float
    step: tuple[float, ...]
    step_sigma: float
    cache_mb: float = math.inf
    answer_float: tuple[float, ...] = ()


def answer_features(spec: ModelSpec, depth: int) -> tuple[float, ...]:
    """What the time of an answer is linear in: blocks, GFLOP, 1e6 values, 1e6 attention pairs."""
    values, pairs = activation_values(spec, depth), attention_pairs(spec, depth)
    return (float(depth), gflop(spec, depth), values * 1e-6, pairs * 1e-6)


def step_features(
    spec: ModelSpec, depth: int, models: int, bits: float, batch: int, trained: str = "full"
) -> tuple[float, ...]:
    """What the time of a training step is linear in, its working set in MB at WORKING_SET.

    Blocks; GFLOP of the batch; 1e6 values kept for backward; 1e6 weights moved; what the working
    set has over the caches; and with two models quantized tensors, 1e6 quantized weights and those
    times bits. What trains fewer tensors counts in units of what trains all.
    """
    passes = TWO_MODEL_PASSES if models == 2 else 1
    share = TRAINED[trained]
    kept = passes * share.kept * kept_values(spec, depth) * batch * 1e-6
    held, moved = STATE_TOUCHES
    whole, own = parameters(spec, depth), trained_parameters(spec, depth, trained)
    weights = passes * (held * whole + moved * own) / (held + moved) * 1e-6
    tensors, coded = coded_weights(spec, depth) if models == 2 else (0, 0)
    return (
        float(passes * depth),
        passes * share.passes / TRAINED["full"].passes * gflop(spec, depth) * batch,
        kept,
        weights,
        4 * (kept + (held + moved) * weights),
        float(tensors),
        coded * 1e-6,
        coded * bits * 1e-6,
    )


def spilled(features: tuple[float, ...], cache_mb: float) -> tuple[float, ...]:
    """The features with the part of the working set that is beyond the caches."""
    over = max(0.0, features[WORKING_SET] - cache_mb)
    return (*features[:WORKING_SET], over, *features[WORKING_SET + 1 :])


def dot(weights: tuple[float, ...], features: tuple[float, ...]) -> float:
    """Their product."""
    return sum(weight * feature for weight, feature in zip(weights, features, strict=True))


def step_ms(speed: Speed, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Milliseconds of many steps at once; `features` as `step_features` has them, last axis."""
    import numpy as np

    found = features @ np.array(speed.step)
    over = np.minimum(features[..., WORKING_SET], speed.cache_mb)
    spilling: NDArray[np.float64] = found - speed.step[WORKING_SET] * over
    return spilling


@lru_cache(maxsize=1024)
def parameters(spec: ModelSpec, depth: int) -> int:
    """Weights of the sub-model."""
    return parameter_count(spec, depth)


@lru_cache(maxsize=4096)
def trained_parameters(spec: ModelSpec, depth: int, trained: str) -> int:
    """Weights that training moves and a device sends; raises ConfigError for a set it lacks."""
    return sum(math.prod(shape) for shape in sent_shapes(spec, depth, trained).values())


@lru_cache(maxsize=1024)
def coded_weights(spec: ModelSpec, depth: int) -> tuple[int, int]:
    """Quantized tensors and their weights."""
    shapes = tensor_shapes(spec, depth)
    names = quantized_tensors(spec, depth)
    return len(names), sum(math.prod(shapes[name]) for name in names)


@lru_cache(maxsize=1024)
def gflop(spec: ModelSpec, depth: int) -> float:
    """1e9 floating-point operations of one forward pass."""
    return 2 * forward_macs(spec, depth) / 1e9
