"""What a round says about each device's plan: too much for it, right, or less than it could bear.

Histories are folded from the stored assignments, so a restart replays them; only the latest closed
round changes plans. A round that closed at quorum says nothing of those it did not wait for.
"""

from __future__ import annotations

import logging

from coordinator import records as r
from coordinator.planner.bounds import round_seconds
from coordinator.planner.hysteresis import History, Outcome, observe, place_of, settle
from coordinator.planner.options import Candidate
from coordinator.planning import Planning, candidate_of, profile_of
from coordinator.store import Store
from devices.capability import capability_of
from reefleet.errors import PlanError

logger = logging.getLogger(__name__)


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
        closed = [one for one in self._store.rounds() if one.state == r.CLOSED]
        new = [one for one in closed if one.number > self._seen]
        for one in new:
            for work in self._store.assignments(r.FEDERATE, one.number):
                self._take_in(one, work)
            self._seen = one.number
        if new:
            for work in self._store.assignments(r.FEDERATE, new[-1].number):
                self._settle(work.device_id)

    def _take_in(self, over: r.Round, work: r.Assignment) -> None:
        device = self._store.device(work.device_id)
        outcome = self._outcome(over, work)
        if device is None or outcome is None:
            return
        history = self._histories.get(work.device_id, History())
        ran = candidate_of(work.plan)
        if self._plans.setdefault(work.device_id, ran) != ran:
            history = History(history.caution, steady=0, since_change=0)
            self._plans[work.device_id] = ran
        options = self._planning.options
        place = place_of(options, ran)
        if place is None:
            return
        able = capability_of(profile_of(device))
        predicted = options.at(round_seconds(able, options), place)
        deadline = options.budget.round_deadline_s
        self._histories[work.device_id] = observe(history, outcome, predicted, deadline)

    def _settle(self, device_id: str) -> None:
        device, history = self._store.device(device_id), self._histories.get(device_id)
        if device is None or device.plan is None or history is None:
            return
        current = candidate_of(device.plan)
        try:
            able = capability_of(profile_of(device))
            decision, after = settle(able, self._planning.options, current, history)
        except PlanError as error:
            # The budget is for the next report to judge; a device at work keeps its plan.
            logger.warning("Plan not reviewed", extra={"device": device_id, "reason": str(error)})
            return
        self._histories[device_id] = after
        if decision.candidate != current:
            logger.info(
                "Plan changed",
                extra={
                    "device": device_id,
                    "depth": decision.candidate.exit_depth,
                    "was": current.exit_depth,
                },
            )
            self._planning.change(device, decision)

    def _outcome(self, over: r.Round, work: r.Assignment) -> Outcome | None:
        if work.state == r.COMMITTED:
            update = self._store.update(over.number, work.device_id)
            seconds = update.metrics.get("train_seconds") if update else None
            return Outcome("done", float(seconds) if seconds else None)
        if work.state == r.EXPIRED and over.reason == "deadline":
            return Outcome("late")
        return None
