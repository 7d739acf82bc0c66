"""What a board could have: accuracy of every depth and bit-width against what it costs there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.planner.options import Choice
from coordinator.planner.solve import Decision, closest
from devices import cost


@dataclass(frozen=True, slots=True)
class Point:
    """One depth and bit-width. `best`: nothing costs as little and expects more, or the reverse."""

    exit_depth: int
    bits: float
    accuracy: float
    cost: float
    fits: bool
    chosen: bool = False
    best: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A kind of cost: how it is called, its unit, and its value for one candidate."""

    title: str
    unit: str
    of: Callable[[Decision, int], float]


def _latency_ms(decision: Decision, candidate: int) -> float:
    depth = decision.options.candidates[candidate].exit_depth
    options = decision.options
    return cost.answer_ms(options.spec, depth, decision.device.rates, options.budget.runtime).value


def _round_mib(decision: Decision, candidate: int) -> float:
    return decision.options.at(decision.options.payload_bytes, candidate) / 2**20


def _packed_mib(decision: Decision, candidate: int) -> float:
    return decision.options.at(decision.options.packed_kib, candidate) / 1024


def _memory_mib(decision: Decision, candidate: int) -> float:
    return decision.options.at(decision.options.peak_mib, candidate)


AXES = {
    "latency": Axis("one answer at full depth", "ms", _latency_ms),
    "bytes": Axis("bytes of one round", "MiB", _round_mib),
    "packed": Axis("packed sub-model", "MiB", _packed_mib),
    "memory": Axis("peak memory of training", "MiB", _memory_mib),
}


def points(decision: Decision, axis: Axis) -> tuple[Point, ...]:
    """A point for each depth and bit-width, the cheapest first, with the Pareto front marked.

    Where several candidates share both, the best that fits stands for them, or the closest to it.
    """
    options = decision.options
    found = []
    depths, widths = options.rows[Choice.DEPTH], options.rows[Choice.WIDTH]
    here = (depths[decision.chosen], widths[decision.chosen])
    for place, depth in enumerate(options.spec.exits):
        for row, width in enumerate(options.widths):
            among = (depths == place) & (widths == row) & decision.open
            fitting = among & decision.fitting
            fits = bool(fitting.any())
            stands = int(fitting.argmax()) if fits else closest(options, decision.bounds, among)
            chosen = (place, row) == here
            bits, accuracy = width.mean[place], width.accuracy[place]
            found.append(Point(depth, bits, accuracy, axis.of(decision, stands), fits, chosen))
    return tuple(sorted(marked(found), key=lambda point: (point.cost, -point.accuracy)))


def marked(found: Sequence[Point]) -> list[Point]:
    """The points with `best` set where no other is at least as good in both and better in one."""
    from dataclasses import replace

    costs = np.array([point.cost for point in found])
    accuracies = np.array([point.accuracy for point in found])
    front = []
    for point in found:
        no_worse = (costs <= point.cost) & (accuracies >= point.accuracy)
        better = (costs < point.cost) | (accuracies > point.accuracy)
        front.append(replace(point, best=not bool((no_worse & better).any())))
    return front
