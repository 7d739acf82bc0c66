"""Codebooks of 2**bits centers: Lloyd's fit, midpoint assignment, the deployable int8 grid.

QuPeD (NeurIPS 2021) section 2 starts its centers from linspace; Lloyd's error is several times
lower, and midpoint assignment holds for any number of centers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import UnsupportedVersion

GRID_LIMIT = 127
POLICIES = ("snap", "grid", "nearest")
_FEW = 16  # centers up to which comparing whole arrays beats a search per value


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Sorted centers on an int8 grid: center j is steps[j] * scale; every step in [-127, 127]."""

    steps: NDArray[np.int8]
    scale: float

    @property
    def centers(self) -> NDArray[np.float32]:
        """The centers as float32 [K]."""
        return self.steps.astype(np.float32) * np.float32(self.scale)


def lloyd(values: NDArray[Any], bits: int, iterations: int = 25) -> NDArray[np.float32]:
    """Fit 2**bits sorted centers to finite `values` of any shape, for the least squared error.

    The better of two starts, evenly spaced and quantiles; a center without values stays put.
    """
    count = 1 << bits
    ordered = np.sort(np.asarray(values, np.float32).reshape(-1))
    if not ordered.size:
        return np.zeros(count, np.float32)
    even = np.linspace(ordered[0], ordered[-1], count, dtype=np.float64)
    ranks = (np.arange(count) + 0.5) * (ordered.size / count)
    quantiles = ordered[ranks.astype(np.int64)].astype(np.float64)
    moments = _Moments.of(ordered)
    fits = [moments.refine(start, iterations) for start in (even, quantiles)]
    best = min(fits, key=moments.error).astype(np.float32)
    return np.clip(best, ordered[0], ordered[-1])  # linspace may round past its own end


def assign(values: NDArray[Any], centers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Code of the nearest of the sorted `centers` for each value, ties to the lower; same shape."""
    exact = np.asarray(values, np.float32)
    bounds = _midpoints(np.asarray(centers, np.float64))
    if len(centers) > _FEW:
        return np.asarray(np.searchsorted(bounds, exact, side="left"), np.uint8)
    codes = np.zeros(exact.shape, np.uint8)
    for bound in bounds:
        codes += exact > bound
    return codes


def snap(centers: NDArray[np.float32]) -> Grid:
    """Put sorted centers on the int8 grid that spans the largest; all zero gives scale zero."""
    exact = np.asarray(centers, np.float32)
    scale = np.float32(np.abs(exact).max() / np.float32(GRID_LIMIT))
    if scale < np.finfo(np.float32).tiny:
        # A subnormal scale has lost its precision, and runtimes flush it to zero.
        return Grid(np.zeros(exact.shape, np.int8), 0.0)
    steps = np.rint(exact.astype(np.float64) / float(scale))
    return Grid(np.clip(steps, -GRID_LIMIT, GRID_LIMIT).astype(np.int8), float(scale))


def row_scales(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale of each row [out] of a weight [out, ...]: its mean absolute value, 1 where all zero."""
    rows = np.abs(np.asarray(weights, np.float64).reshape(len(weights), -1)).mean(1)
    return np.where(rows > 0, rows, 1.0).astype(np.float32)


def settle(
    policy: str,
    weights: NDArray[np.float32],
    centers: NDArray[np.float32],
    scales: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights and centers after a host policy: `grid`, `nearest`, or `snap`, which is both.

    `grid` puts the centers on the int8 grid, `nearest` each weight on its nearest center. With
    `scales` [out] the centers hold for weights over their row's scale. Raises UnsupportedVersion
    for a policy that this program does not know.
    """
    if policy not in POLICIES:
        msg = f"the policy {policy!r} is not known; update reefleet on this machine"
        raise UnsupportedVersion(msg)
    centers = np.sort(centers)
    if policy != "nearest":
        centers = snap(centers).centers
    if policy == "grid":
        return weights, centers
    rows = np.float32(1) if scales is None else scales.reshape(-1, *[1] * (weights.ndim - 1))
    return np.asarray(centers[assign(weights / rows, centers)] * rows, np.float32), centers


def _midpoints(centers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Bounds [K-1] between float32-valued centers, such that float32 v > bound is v > midpoint."""
    exact = (centers[1:] + centers[:-1]) / 2
    bounds = exact.astype(np.float32)
    below = np.nextafter(bounds, np.float32(-np.inf))
    return np.where(bounds > exact, below, bounds)


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """Sorted values with running sums of v and v**2, so that a cell's mean and error cost O(1)."""

    ordered: NDArray[np.float32]
    first: NDArray[np.float64]
    second: NDArray[np.float64]

    @classmethod
    def of(cls, ordered: NDArray[np.float32]) -> _Moments:
        wide = ordered.astype(np.float64)
        first = np.concatenate(([0.0], np.cumsum(wide)))
        second = np.concatenate(([0.0], np.cumsum(wide * wide)))
        return cls(ordered, first, second)

    def cells(self, centers: NDArray[np.float64]) -> NDArray[np.int64]:
        inner = np.searchsorted(self.ordered, _midpoints(centers), side="right")
        return np.concatenate(([0], inner, [self.ordered.size]))

    def refine(self, centers: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
        edges = self.cells(centers)
        for _ in range(iterations):
            held = np.diff(edges)
            means = np.diff(self.first[edges]) / np.maximum(held, 1)
            centers = np.sort(np.where(held > 0, means, centers))
            before, edges = edges, self.cells(centers)
            if np.array_equal(before, edges):
                break
        return centers

    def error(self, centers: NDArray[np.float64]) -> float:
        edges = self.cells(centers)
        held, sums = np.diff(edges), np.diff(self.first[edges])
        return float(self.second[-1] + np.sum(held * centers**2 - 2 * centers * sums))
