"""Norm clipping: an update longer than a bound is shortened to it, its direction kept.

The bound is given, or the median of recent updates. Sub-models differ in size, so the median is
taken of the root mean square of the values, which does not grow with their number.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reefleet.errors import AggregationError
from reefleet.settings import within


@dataclass(frozen=True, slots=True)
class Clipping:
    """`norm` bounds the Euclidean norm (0: not at all), `median_of` counts recent updates (0)."""

    norm: float = within(0.0, 0.0, 1e9)
    median_of: int = within(0, 0, 100_000)

    def scale(self, rms: float, values: int, recent: Sequence[float]) -> float:
        """What to multiply an update of `values` values with; at most 1.

        `recent` holds the root mean squares of the latest updates, oldest first, its own included.
        Raises AggregationError where `rms` is negative or not finite.
        """
        if not (math.isfinite(rms) and rms >= 0):
            msg = f"an update cannot have a root mean square of {rms}"
            raise AggregationError(msg)
        bounds = []
        if self.norm > 0:
            bounds.append(self.norm / math.sqrt(max(1, values)))
        if self.median_of > 0 and recent:
            bounds.append(statistics.median(recent[-self.median_of :]))
        least = min(bounds, default=math.inf)
        return least / rms if rms > least else 1.0
