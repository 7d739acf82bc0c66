"""How many bits the quantized weights have: as many for all of them, or more where it pays most.

Between two uniform widths lie mixed ones, allocated by the table's harm for each tensor. A mixed
width is expected to gain as much of the gap between its neighbors as it saves of their harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from coordinator.planner.accuracy import AccuracyTable
from coordinator.planner.budget import Budget
from devices import cost
from reefleet.mixed import WIDTHS, Layer, allocate, layers_of
from reefleet.model import ModelSpec, coded_bytes, packed_bytes

BETWEEN = (0.5,)  # of the bytes between two uniform widths; each more doubles what is compared


@dataclass(frozen=True, slots=True)
class Width:
    """One choice of bits; tuples have one entry for each exit of the model.

    `bits` is the width of all quantized weights, or the smaller of the two uniform widths that a
    mixed choice lies between; `layer_bits` is empty where all have `bits`. `mean` is over weights.
    """

    bits: int
    mean: tuple[float, ...]
    layer_bits: tuple[tuple[int, ...], ...]
    accuracy: tuple[float, ...]
    packed_bytes: tuple[int, ...]


def widths_of(spec: ModelSpec, budget: Budget, table: AccuracyTable) -> tuple[Width, ...]:
    """Every width that a budget allows, from the fewest bits; raises ConfigError as the table.

    Mixed ones are among them where the table has measured the tensors.
    """
    uniform = [_uniform(spec, bits, table) for bits in budget.bits]
    if not (budget.mixed_bits and table.harm):
        return tuple(uniform)
    found = []
    for low, high in pairwise(uniform):
        found += [low, *_mixed(spec, budget.bits, table, low, high)]
    return (*found, uniform[-1])


def _uniform(spec: ModelSpec, bits: int, table: AccuracyTable) -> Width:
    exits = spec.exits
    return Width(
        bits=bits,
        mean=(float(bits),) * len(exits),
        layer_bits=((),) * len(exits),
        accuracy=tuple(table.expected(depth, bits) for depth in exits),
        packed_bytes=tuple(cost.packed_size(spec, depth, bits) for depth in exits),
    )


def _mixed(
    spec: ModelSpec, widths: range, table: AccuracyTable, low: Width, high: Width
) -> Iterator[Width]:
    harm = dict(table.harm)
    layers = [layers_of(spec, depth, harm) for depth in spec.exits]
    for share in BETWEEN:
        chosen = []
        for each in layers:
            codes = [sum(coded_bytes(one.weights, w.bits) for one in each) for w in (low, high)]
            room = int(codes[0] + share * (codes[1] - codes[0]))
            chosen.append(allocate(each, room, widths).layer_bits)
        yield Width(
            bits=low.bits,
            mean=tuple(map(_mean, layers, chosen)),
            layer_bits=tuple(chosen),
            accuracy=tuple(
                low.accuracy[e]
                + _gain(each, bits, low, high) * (high.accuracy[e] - low.accuracy[e])
                for e, (each, bits) in enumerate(zip(layers, chosen, strict=True))
            ),
            packed_bytes=tuple(
                packed_bytes(spec, depth, bits)
                for depth, bits in zip(spec.exits, chosen, strict=True)
            ),
        )


def _gain(layers: tuple[Layer, ...], bits: tuple[int, ...], low: Width, high: Width) -> float:
    """Share of the harm between two uniform widths that these bits save."""
    before = _harm(layers, (low.bits,) * len(layers))
    after = _harm(layers, (high.bits,) * len(layers))
    if before <= after:
        return 0.0
    return min(1.0, max(0.0, (before - _harm(layers, bits)) / (before - after)))


def _harm(layers: tuple[Layer, ...], bits: tuple[int, ...]) -> float:
    return sum(layer.harm[width - WIDTHS[0]] for layer, width in zip(layers, bits, strict=True))


def _mean(layers: tuple[Layer, ...], bits: tuple[int, ...]) -> float:
    total = sum(layer.weights for layer in layers)
    pairs = zip(layers, bits, strict=True)
    return sum(layer.weights * width for layer, width in pairs) / total
