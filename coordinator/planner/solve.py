"""The choice for a device: the first option, in order of expected accuracy, within all bounds.

Pure and exhaustive. The fleet's expected accuracy is the mean over its devices, and no bound ties
one device to another, so the best plan of each is the best of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.planner.accuracy import AccuracyTable, default_table
from coordinator.planner.bounds import (
    TRUST,
    Bound,
    Caution,
    Constraint,
    allowed,
    bounds_of,
    fitting,
)
from coordinator.planner.budget import Budget
from coordinator.planner.options import Candidate, Options, options_of
from coordinator.planner.text import width_text
from devices.capability import Capability, capability_of
from devices.profile import DeviceProfile
from reefleet.errors import NoFeasiblePlan
from reefleet.model import ModelSpec
from reefleet.plan import SubmodelPlan


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What was chosen for a device, by its place in the options, and what the choice rests on."""

    device: Capability
    options: Options
    bounds: tuple[Bound, ...]
    open: NDArray[np.bool_]  # what the device's link admits, fitting or not
    fitting: NDArray[np.bool_]
    chosen: int

    @property
    def candidate(self) -> Candidate:
        """The chosen values."""
        return self.options.candidates[self.chosen]

    @property
    def expected_accuracy(self) -> float:
        """What the accuracy table expects of them."""
        return float(self.options.accuracy[self.chosen])

    def constraints(self, candidate: int) -> tuple[Constraint, ...]:
        """Every bound against one candidate."""
        return tuple(bound.of(self.options, candidate) for bound in self.bounds)

    def need(self, setting: str) -> float | None:
        """What the choice needs of the bound with this setting; None where it is not bounded."""
        found = (c.need for c in self.constraints(self.chosen) if c.setting == setting)
        return next(found, None)


def plan_for(
    profile: DeviceProfile, spec: ModelSpec, budget: Budget, table: AccuracyTable | None = None
) -> SubmodelPlan:
    """The best plan that fits, explained; raises NoFeasiblePlan or UnknownBoard, ConfigError."""
    from coordinator.planner.explain import explained

    options = options_of(spec, budget, table or default_table(spec))
    return explained(decide(capability_of(profile), options))


def decide(device: Capability, options: Options, caution: Caution = TRUST) -> Decision:
    """The best option for a device; raises NoFeasiblePlan naming what to relax and by how much."""
    bounds = bounds_of(device, options, caution)
    admitted = allowed(device, options)
    kept = admitted & fitting(bounds, options)
    chosen = int(kept.argmax())
    if not kept[chosen]:
        raise _nothing_fits(device, options, bounds, admitted)
    return Decision(device, options, bounds, admitted, kept, chosen)


def closest(options: Options, bounds: tuple[Bound, ...], among: NDArray[np.bool_]) -> int:
    """The candidate that would fit after the smallest relaxation; the best of equals."""
    worst = np.zeros(options.shape)
    for bound in bounds:
        np.maximum(worst, bound.ratios(), out=worst)
    return int(np.where(among, worst.ravel()[options.order], np.inf).argmin())


def broken_bounds(options: Options, bounds: tuple[Bound, ...], candidate: int) -> list[Constraint]:
    """The bounds that a candidate breaks, worst first."""
    broken = [held for bound in bounds if (held := bound.of(options, candidate)).broken]
    return sorted(broken, key=lambda constraint: -constraint.ratio)


def _nothing_fits(
    device: Capability, options: Options, bounds: tuple[Bound, ...], among: NDArray[np.bool_]
) -> NoFeasiblePlan:
    nearest = closest(options, bounds, among)
    if not among[nearest]:  # no setting helps any of them; the smallest tells it best
        smallest = np.where(among, options.ranked(options.peak_mib), np.inf)
        nearest = int(smallest.argmin())
    easiest = options.candidates[nearest]
    broken = broken_bounds(options, bounds, nearest)
    refused = "; ".join(constraint.refusal() for constraint in broken)
    relaxed = " and ".join(constraint.relaxation() for constraint in broken)
    msg = (
        f"no sub-model fits {device.board}: even depth {easiest.exit_depth} with "
        f"{width_text(easiest)} and batch {easiest.batch_size} breaks the budget "
        f"({refused}); {relaxed}"
    )
    return NoFeasiblePlan(msg)
