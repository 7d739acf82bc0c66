"""What a round says about each device's plan: too much for it, right, or less than it could bear.

Histories are folded from the stored assignments, so a restart replays them; only the latest closed
round changes plans. A round that closed at quorum says nothing of those it did not wait for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from coordinator import records as r
from coordinator.abandoned import DIED, OUT_OF_MEMORY
from coordinator.planner.hysteresis import (
    History,
    Outcome,
    expectation,
    observe,
    place_of,
    settle,
)
from coordinator.planner.options import Candidate
from coordinator.planner.solve import Decision
from coordinator.planning import Planning, candidate_of, profile_of
from coordinator.store import Store
from devices.capability import capability_of
from reefleet.errors import ConfigError, PlanError, ReefleetError

logger = logging.getLogger(__name__)

_GIVEN_UP: Mapping[str, Literal["memory", "lost"]] = {OUT_OF_MEMORY: "memory", DIED: "lost"}


class Review:
    """Looks at every closed round once. Belongs to the thread that closes rounds."""

    def __init__(self, store: Store, planning: Planning) -> None:
        self._store = store
        self._planning = planning
        self._seen = 0
        self._histories: dict[str, History] = {}
        self._plans: dict[str, Candidate] = {}

    def catch_up(self) -> None:
        """Take in the rounds that closed since the last call; change plans where that is due."""
        if (more := self._store.rounds_closed() - self._seen) <= 0:
            return
        latest = self._store.last_rounds(more + 1)  # one may be open
        new = [one for one in latest if one.state == r.CLOSED and one.number > self._seen]
        devices = {device.device_id: device for device in self._store.devices()}
        for one in new:
            seconds = self._store.train_seconds(one.number)
            for work in self._store.assignments(r.FEDERATE, one.number):
                device = devices.get(work.device_id)
                outcome = _outcome(one, work, seconds)
                if device and outcome:
                    try:
                        self._take_in(device, work, outcome)
                    except (PlanError, ConfigError) as error:
                        _not_reviewed(work.device_id, error)
            self._seen = one.number
        changes = []
        for work in self._store.assignments(r.FEDERATE, new[-1].number):
            device = devices.get(work.device_id)
            if device and (decision := self._settled(device)):
                changes.append((device, decision))
        self._planning.change(changes)

    def _take_in(self, device: r.Device, work: r.Assignment, outcome: Outcome) -> None:
        history = self._histories.get(work.device_id, History())
        able, budget = capability_of(profile_of(device)), self._planning.options.budget
        ran = candidate_of(work.plan, able.train_samples, budget)
        if self._plans.setdefault(work.device_id, ran) != ran:
            history = History(history.caution, steady=0, since_change=0)
            self._plans[work.device_id] = ran
        options = self._planning.options
        place = place_of(options, ran)
        if place is None:
            return
        expected = expectation(able, options, place)
        self._histories[work.device_id] = observe(history, outcome, expected)

    def _settled(self, device: r.Device) -> Decision | None:
        """Another plan for a device, where its history asks for one."""
        device_id = device.device_id
        history = self._histories.get(device_id)
        if device.plan is None or history is None:
            return None
        options = self._planning.options
        try:
            able = capability_of(profile_of(device))
            current = candidate_of(device.plan, able.train_samples, options.budget)
            decision, after = settle(able, options, current, history)
        except (PlanError, ConfigError) as error:
            # The budget is for the next report to judge; a device at work keeps its plan.
            _not_reviewed(device_id, error)
            return None
        self._histories[device_id] = after
        if decision.candidate == current:
            return None
        depths = {"depth": decision.candidate.exit_depth, "was": current.exit_depth}
        logger.info("Plan changed", extra={"device": device_id, **depths})
        return decision


def _not_reviewed(device_id: str, error: ReefleetError) -> None:
    logger.warning("Plan not reviewed", extra={"device": device_id, "reason": str(error)})


def _outcome(over: r.Round, work: r.Assignment, seconds: Mapping[str, float]) -> Outcome | None:
    if work.state == r.COMMITTED:
        return Outcome("done", seconds.get(work.lease))
    if work.state == r.EXPIRED and over.reason == "deadline":
        return Outcome("late")
    if work.state == r.REFUSED and work.reason in _GIVEN_UP:
        return Outcome(_GIVEN_UP[work.reason])
    return None
