"""Every sub-model that a budget allows, in one order of preference that no device changes.

Because the order is fixed and a device only says what fits, a wider bound can never give a worse
choice, and a tighter deadline never a slower one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.planner.accuracy import AccuracyTable
from coordinator.planner.budget import Budget
from coordinator.planner.widths import Width, widths_of
from devices import cost
from reefleet.model import ModelSpec

# Codecs a plan may name, from the finest. float32 would double float16 for nothing.
CODECS = ("float16", "int8", "codebook4", "codebook2")
MODELS = (1, 2)

Rows = NDArray[np.intp]
Figures = NDArray[np.float64]


class Choice(IntEnum):
    """The choices, in the order of every array's axes; the longest is last, which is fastest."""

    DEPTH = 0
    MODELS = 1
    TRAINED = 2
    BATCH = 3
    EPOCHS = 4
    CODEC = 5
    WIDTH = 6


LOAD = (
    Choice.DEPTH,
    Choice.MODELS,
    Choice.TRAINED,
    Choice.BATCH,
)  # what a training step is made of


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice. `epochs` below 1 is that share of one; `layer_bits` is empty where all agree."""

    exit_depth: int
    bits: int
    models: int
    batch_size: int
    epochs: float
    codec: str
    trained: str = "full"
    layer_bits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """The candidates from the best, their expected accuracy, and the figures that bounds need.

    Figures have one axis for each choice, as `Choice` orders them; an axis of extent 1 does not
    matter to them. `order` lists the places in `shape` from the best candidate on, `rows` has each
    candidate's place on every axis in that order; `possible` is false where no step can be built.
    """

    spec: ModelSpec
    budget: Budget
    table: AccuracyTable
    widths: tuple[Width, ...]
    candidates: tuple[Candidate, ...]
    accuracy: Figures
    rows: tuple[Rows, ...]
    shape: tuple[int, ...]
    order: Rows
    possible: NDArray[np.bool_]
    peak_mib: Figures
    packed_kib: Figures
    disk_mib: Figures
    payload_bytes: Figures

    def at(self, figures: NDArray[Any], candidate: int) -> float:
        """The figure of one candidate."""
        place = np.unravel_index(int(self.order[candidate]), self.shape)
        extents = zip(place, figures.shape, strict=True)
        return float(figures[tuple(int(i) if extent > 1 else 0 for i, extent in extents)])

    def ranked(self, figures: NDArray[Any]) -> NDArray[Any]:
        """The figures of all candidates, from the best."""
        return np.broadcast_to(figures, self.shape).ravel()[self.order]

    def alike(self, candidate: int, *axes: Choice) -> NDArray[np.bool_]:
        """Which candidates choose as this one on some axes."""
        same = np.ones(len(self.order), bool)
        for axis in axes:
            same &= self.rows[axis] == self.rows[axis][candidate]
        return same


def placed(values: Sequence[Any] | NDArray[Any], *axes: Choice) -> Figures:
    """Values over some rising axes, shaped to meet arrays over all."""
    array = np.asarray(values, np.float64)
    shape = [1] * len(Choice)
    for axis, extent in zip(axes, array.shape, strict=True):
        shape[axis] = extent
    return array.reshape(shape)


@lru_cache(maxsize=64)
def places(options: Options) -> Mapping[Candidate, int]:
    """Where each candidate stands."""
    return {candidate: place for place, candidate in enumerate(options.candidates)}


@lru_cache(maxsize=64)
def options_of(spec: ModelSpec, budget: Budget, table: AccuracyTable) -> Options:
    """All candidates; raises ConfigError where the table does not know an exit or bit-width."""
    widths = widths_of(spec, budget, table)
    choices: tuple[Sequence[Any], ...] = (
        *(spec.exits, MODELS[: budget.max_models], budget.trained, budget.batches),
        *(budget.efforts, CODECS, widths),
    )
    shape = tuple(map(len, choices))
    rows = [axis.ravel() for axis in np.indices(shape)]
    at = (rows[Choice.DEPTH], rows[Choice.WIDTH])
    accuracy = np.array([width.accuracy for width in widths]).T[at]
    bits = np.array([width.mean for width in widths]).T[at]
    partial = np.array(budget.efforts)[rows[Choice.EPOCHS]] < 1
    # The last key sorts first: accuracy, then a whole epoch, the preferred trained set, a personal
    # model, more epochs, exactness, larger batches, and of equals the smaller.
    smaller = (rows[Choice.DEPTH], bits, -rows[Choice.BATCH], rows[Choice.CODEC])
    more = (-rows[Choice.EPOCHS], -rows[Choice.MODELS], rows[Choice.TRAINED], partial, -accuracy)
    order = np.lexsort((*smaller, *more))
    rows = [row[order] for row in rows]
    return Options(
        spec=spec,
        budget=budget,
        table=table,
        widths=widths,
        candidates=tuple(
            _candidate(choices, place)
            for place in zip(*(row.tolist() for row in rows), strict=True)
        ),
        accuracy=accuracy[order],
        rows=tuple(rows),
        shape=shape,
        order=order,
        possible=~((rows[Choice.MODELS] > 0) & _partly(budget.trained)[rows[Choice.TRAINED]]),
        **_figures(spec, budget, widths),
    )


def _partly(trained: Sequence[str]) -> NDArray[np.bool_]:
    """Which sets do not train everything; two models are trained in full."""
    return np.array([each != "full" for each in trained])


def _candidate(choices: tuple[Sequence[Any], ...], place: tuple[int, ...]) -> Candidate:
    depth, models, trained, batch, epochs, codec, width = (
        values[at] for values, at in zip(choices, place, strict=True)
    )
    at = place[Choice.DEPTH]
    return Candidate(
        *(depth, width.bits, models, batch, epochs, codec, trained), width.layer_bits[at]
    )


def _figures(spec: ModelSpec, budget: Budget, widths: tuple[Width, ...]) -> dict[str, Figures]:
    """What no device changes, each with the axes that matter to it."""
    exits, trained = spec.exits, budget.trained
    loads = product(exits, MODELS[: budget.max_models], trained, budget.batches)
    peaks = [cost.client_peak_mib(spec, d, m, b, t).value for d, m, t, b in loads]
    by_load = (len(exits), min(budget.max_models, len(MODELS)), len(trained), len(budget.batches))
    packed = np.array([width.packed_bytes for width in widths]).T
    files = [cost.disk_bytes(spec, depth, 0) for depth in exits]
    down = [cost.download_bytes(spec, depth) for depth in exits]
    sent = [cost.update_bytes(spec, d, c, t) for d, t, c in product(exits, trained, CODECS)]
    up = np.array(sent).reshape(len(exits), len(trained), len(CODECS))
    return {
        "peak_mib": placed(np.reshape(peaks, by_load), *LOAD),
        "packed_kib": placed(packed / 1024, Choice.DEPTH, Choice.WIDTH),
        "disk_mib": placed(
            (np.array(files)[:, None] + cost.KEPT_SUBMODELS * packed) / 2**20,
            Choice.DEPTH,
            Choice.WIDTH,
        ),
        "payload_bytes": placed(down, Choice.DEPTH)
        + placed(up, Choice.DEPTH, Choice.TRAINED, Choice.CODEC),
    }
