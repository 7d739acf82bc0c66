"""Bit-widths by layer under a byte budget: a multiple-choice knapsack, solved on its convex hull.

Each quantized tensor pays bytes for bits and is harmed less by more of them. Steps along each
tensor's lower convex hull are taken by harm saved per byte (the Lagrangian's order), then what
budget is left goes to the best steps that still fit. The least harm that any choice could reach is
bounded from below by the same order with its last step cut, so each answer tells how near it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reefleet.errors import ConfigError, NoFeasiblePlan
from reefleet.model import ModelSpec, coded_bytes, packed_bytes, quantized_tensors, tensor_shapes

WIDTHS = range(1, 9)


@dataclass(frozen=True, slots=True)
class Layer:
    """A quantized tensor: its weights, and the harm that each width of WIDTHS does to the loss."""

    name: str
    weights: int
    harm: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse harm that cannot be compared."""
        if len(self.harm) != len(WIDTHS) or not all(0 <= h < math.inf for h in self.harm):
            msg = f"layer {self.name!r} must tell a finite harm for each of {len(WIDTHS)} widths"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bits of each layer, their bytes and harm; no choice within the budget does less than `bound`.

    `bound` holds for the widths that were offered.
    """

    layer_bits: tuple[int, ...]
    coded_bytes: int
    harm: float
    bound: float


@dataclass(frozen=True, slots=True)
class _Step:
    layer: int
    bits: int
    extra: int  # bytes
    saved: float  # harm

    @property
    def worth(self) -> float:
        return self.saved / self.extra


def layers_of(
    spec: ModelSpec, depth: int, harm: Mapping[str, Sequence[float]] | None = None
) -> tuple[Layer, ...]:
    """The quantized tensors of a sub-model, with their measured harm.

    Without a measurement every weight counts alike and harm falls to a quarter a bit, as the
    squared error of a quantizer does. Raises ConfigError where a tensor was not measured.
    """
    shapes = tensor_shapes(spec, depth)
    found = []
    for name in quantized_tensors(spec, depth):
        count = math.prod(shapes[name])
        told = [count * 4.0**-bits for bits in WIDTHS] if harm is None else harm.get(name)
        if told is None:
            msg = f"the sensitivity of {name!r} was not measured; measure it at depth {depth}"
            raise ConfigError(msg)
        found.append(Layer(name, count, tuple(float(value) for value in told)))
    return tuple(found)


def layer_bits_for(
    spec: ModelSpec,
    depth: int,
    budget_bytes: int,
    harm: Mapping[str, Sequence[float]] | None = None,
    widths: range = WIDTHS,
) -> tuple[int, ...]:
    """`SubmodelPlan.layer_bits` such that `packed_bytes` stays within the budget.

    Raises NoFeasiblePlan where the least widths do not fit, ConfigError as `layers_of`.
    """
    layers = layers_of(spec, depth, harm)
    least = sum(coded_bytes(layer.weights, widths[0]) for layer in layers)
    rest = packed_bytes(spec, depth, widths[0]) - least
    return allocate(layers, budget_bytes - rest, widths).layer_bits


def allocate(layers: Sequence[Layer], budget_bytes: int, widths: range = WIDTHS) -> Allocation:
    """Widths of least harm whose codes and codebooks take at most `budget_bytes`.

    Equal inputs give equal answers. Raises NoFeasiblePlan where the least widths do not fit.
    """
    bits = [widths[0]] * len(layers)
    used = sum(coded_bytes(layer.weights, widths[0]) for layer in layers)
    if used > budget_bytes:
        msg = f"{used} bytes are needed at {widths[0]} bits a weight; the budget is {budget_bytes}"
        raise NoFeasiblePlan(msg)
    harm = sum(_harm(layer, widths[0]) for layer in layers)
    hulls = [_hull(index, layer, widths) for index, layer in enumerate(layers)]
    steps = sorted((s for hull in hulls for s in hull), key=lambda s: (-s.worth, s.layer, s.bits))
    bound, left, stopped = harm, float(budget_bytes - used), set[int]()
    for step in steps:
        share = min(1.0, left / step.extra)
        bound, left = bound - share * step.saved, left - share * step.extra
        if used + step.extra > budget_bytes:
            stopped.add(step.layer)
        if step.layer not in stopped:
            bits[step.layer] = step.bits
            used, harm = used + step.extra, harm - step.saved
    bits, used, harm = _filled(layers, bits, budget_bytes, widths)
    return Allocation(tuple(bits), used, harm, min(bound, harm))


def _harm(layer: Layer, bits: int) -> float:
    return layer.harm[bits - WIDTHS[0]]


def _hull(index: int, layer: Layer, widths: range) -> list[_Step]:
    points = [(b, coded_bytes(layer.weights, b), _harm(layer, b)) for b in widths]
    hull = points[:1]
    for point in points[1:]:
        if point[2] >= hull[-1][2]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return [
        _Step(index, high[0], high[1] - low[1], low[2] - high[2])
        for low, high in itertools.pairwise(hull)
    ]


def _slope(low: tuple[int, int, float], high: tuple[int, int, float]) -> float:
    return (high[2] - low[2]) / (high[1] - low[1])


def _filled(
    layers: Sequence[Layer], bits: list[int], budget_bytes: int, widths: range
) -> tuple[list[int], int, float]:
    """Take the single change that saves most and still fits, until none saves."""

    def cost(index: int, width: int) -> int:
        return coded_bytes(layers[index].weights, width)

    while True:
        used = sum(cost(index, width) for index, width in enumerate(bits))
        fits = [
            (_harm(layer, bits[i]) - _harm(layer, b), -i, -b)
            for i, layer in enumerate(layers)
            for b in widths
            if used + cost(i, b) - cost(i, bits[i]) <= budget_bytes
        ]
        saved, index, width = max(fits)
        if saved <= 0:
            break
        bits[-index] = -width
    return bits, used, sum(_harm(layer, width) for layer, width in zip(layers, bits, strict=True))
