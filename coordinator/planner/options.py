"""Every sub-model that a budget allows, in one order of preference that no device changes.

Because the order is fixed and a device only says what fits, a wider bound can never give a worse
choice, and a tighter deadline never a slower one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.planner.accuracy import AccuracyTable
from coordinator.planner.budget import Budget
from devices import cost
from reefleet.model import ModelSpec

# Codecs a plan may name, from the finest. float32 would double float16 for nothing.
CODECS = ("float16", "int8", "codebook4", "codebook2")
MODELS = (1, 2)

Rows = NDArray[np.intp]
Figures = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice."""

    exit_depth: int
    bits: int
    models: int
    batch_size: int
    local_epochs: int
    codec: str


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """The candidates from the best, their expected accuracy, and the figures that bounds need.

    Figures have one axis for each choice, in the order depth, bits, models, batch, epochs, codec;
    an axis of extent 1 does not matter to them. `order` lists the places in `shape` from the best
    candidate on; `depth_row`, `bits` and `codec` are values of the candidates in that order.
    """

    spec: ModelSpec
    budget: Budget
    table: AccuracyTable
    candidates: tuple[Candidate, ...]
    accuracy: Figures
    codec: Rows
    bits: Rows
    depth_row: Rows
    shape: tuple[int, ...]
    order: Rows
    peak_mib: Figures  # depth, models, batch
    packed_kib: Figures  # depth, bits
    disk_mib: Figures  # depth, bits
    payload_bytes: Figures  # depth, codec

    def at(self, figures: NDArray[Any], candidate: int) -> float:
        """The figure of one candidate."""
        place = np.unravel_index(int(self.order[candidate]), self.shape)
        extents = zip(place, figures.shape, strict=True)
        return float(figures[tuple(int(i) if extent > 1 else 0 for i, extent in extents)])

    def ranked(self, figures: NDArray[Any]) -> NDArray[Any]:
        """The figures of all candidates, from the best."""
        return np.broadcast_to(figures, self.shape).ravel()[self.order]


@lru_cache(maxsize=64)
def options_of(spec: ModelSpec, budget: Budget, table: AccuracyTable) -> Options:
    """All candidates; raises ConfigError where the table does not know an exit or bit-width."""
    counts = MODELS[: budget.max_models]
    choices: tuple[Sequence[int], ...] = (
        spec.exits,
        budget.bits,
        counts,
        budget.batches,
        budget.epochs,
        range(len(CODECS)),
    )
    found = {(d, b): table.expected(d, b) for d, b in product(spec.exits, budget.bits)}
    depths, bits, models, batches, epochs, codecs = (
        axis.ravel() for axis in np.meshgrid(*map(np.asarray, choices), indexing="ij")
    )
    accuracy = np.array([found[d, b] for d, b in zip(depths.tolist(), bits.tolist(), strict=True)])
    # The last key sorts first: accuracy, then a personal model, epochs, exactness, larger batches,
    # and of equals the smaller.
    order = np.lexsort((depths, bits, -batches, codecs, -epochs, -models, -accuracy))
    shape = tuple(map(len, choices))
    depth_at, _, _, _, _, codec_at = np.unravel_index(order, shape)
    return Options(
        spec=spec,
        budget=budget,
        table=table,
        candidates=tuple(
            Candidate(depth, width, count, batch, rounds, CODECS[codec])
            for depth, width, count, batch, rounds, codec in zip(
                *(axis[order].tolist() for axis in (depths, bits, models, batches, epochs, codecs)),
                strict=True,
            )
        ),
        accuracy=accuracy[order],
        codec=codec_at,
        bits=bits[order],
        depth_row=depth_at,
        shape=shape,
        order=order,
        **_figures(spec, budget, shape),
    )


def _figures(spec: ModelSpec, budget: Budget, shape: tuple[int, ...]) -> dict[str, Figures]:
    """What no device changes, each with the axes that matter to it."""
    triples = product(spec.exits, MODELS[: budget.max_models], budget.batches)
    peaks = [cost.client_peak_mib(spec, *triple).value for triple in triples]
    pairs = list(product(spec.exits, budget.bits))
    by_size = (shape[0], shape[1], 1, 1, 1, 1)
    payload = [
        cost.download_bytes(spec, depth) + cost.update_bytes(spec, depth, codec)
        for depth, codec in product(spec.exits, CODECS)
    ]
    return {
        "peak_mib": np.array(peaks).reshape(shape[0], 1, shape[2], shape[3], 1, 1),
        "packed_kib": np.array([cost.packed_size(spec, *p) / 1024 for p in pairs]).reshape(by_size),
        "disk_mib": np.array([cost.disk_bytes(spec, *p) / 2**20 for p in pairs]).reshape(by_size),
        "payload_bytes": np.array(payload, np.float64).reshape(shape[0], 1, 1, 1, 1, shape[5]),
    }
