"""The rounds of a run: open, wait for updates, fold them, publish; then personal work for each.

A round opens when enough devices are ready, with one lease a device. Updates arrive through
`coordinator.updates`. The round closes at quorum, at its deadline or when nobody works any more;
`coordinator.folding` makes the next version of nothing but the stored updates. All of it is in the
store before anybody hears of it; a coordinator killed anywhere goes on from there.
`coordinator.buffered` is the asynchronous way.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import RoundPolicy
from coordinator.coverage import Coverage
from coordinator.deadline import Deadline
from coordinator.faults import point
from coordinator.folding import Folded, fold
from coordinator.gate import Gate
from coordinator.memory import give_back
from coordinator.sampling import cohort
from coordinator.store import Store
from coordinator.tracing import span
from coordinator.versions import Versions
from coordinator.work import batches, work_for
from reefleet import logs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet; ask again after `ms`."""

    ms: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over for this device."""


class Rounds:
    """One run over the devices in `store`. `advance` belongs to one thread, the rest to any."""

    def __init__(
        self, store: Store, versions: Versions, policy: RoundPolicy, gate: Gate, clock: Clock
    ) -> None:
        self._store = store
        self._versions = versions
        self._policy = policy
        self._gate = gate
        self._clock = clock
        self._deadline = Deadline(policy.deadline_s, clock)
        self.coverage = Coverage()
        self.before_opening: Callable[[], None] = lambda: None  # plans are reviewed here

    def next_task(self, device_id: str) -> r.Assignment | Wait | Finished:
        """What the device does now; the same lease again until its work is over."""
        if assignment := self._store.open_assignment(device_id):
            self._gate.presence.working(device_id)
            return assignment
        total = self._policy.total
        if self._store.rounds_closed() >= total:
            last = self._store.assignment_of(r.PERSONALIZE, total + 1, device_id)
            if last and last.state in {r.COMMITTED, r.REFUSED}:
                return Finished()
        return Wait(self._gate.presence.wait_ms(device_id, self._policy.poll_ms))

    def seconds_left(self) -> float:
        """Until the open round's deadline; a whole round's time where none is open."""
        current = self._store.current_round()
        return self._deadline.left_s(current) if current else self._policy.deadline_s

    def turn(self, _work: r.Assignment) -> int:
        """How many pieces of work of this round the device has had before."""
        return 0

    def advance(self) -> None:
        """Close and open whatever is due now."""
        while self._step():
            pass

    def _step(self) -> bool:
        if current := self._store.current_round():
            with logs.context(round_number=current.number):
                if current.state == r.OPEN and (reason := self._reason_to_close(current)):
                    self._stop(current, reason)
                elif current.state == r.CLOSING:
                    with span("close"):
                        self._close(current)
                else:
                    return False
            return True
        if self._store.fact(r.PAUSED):
            return False
        closed = self._store.rounds_closed()
        if closed < self._policy.total:
            self.before_opening()
            return self._open(closed + 1)
        self._hand_out_personal_work()
        return False

    def _open(self, number: int) -> bool:
        if not self._gate.may_hold(self._policy.min_devices):
            return False
        base = self._store.latest_version()
        ready = [device for device in self._store.ready() if self._gate.lets_in(device)]
        if base is None or len(ready) < self._policy.min_devices:
            return False
        size = self._policy.cohort
        invited = math.ceil(size * (1 + self._policy.over_selection) - 1e-9)
        devices = cohort(ready, invited, seed=number)
        counted = min(size, len(devices)) if size else len(devices)
        opened = self._new_round(number, base.number, self._policy.quorum * counted)
        work = [self._assignment(d, r.FEDERATE, number, base.number) for d in devices]
        point("round.open.before-commit")
        self._store.add_round(opened, work)
        point("round.open.committed")
        self.coverage.look(devices, self._versions.spec.depth)
        facts = {"round": number, "devices": len(work), "base_version": base.number}
        logger.info("Round opened", extra=facts)
        return True

    def _new_round(self, number: int, base: int, needed: float) -> r.Round:
        now = self._clock.wall()
        return r.Round(
            number=number,
            base_version=base,
            state=r.OPEN,
            # The slack keeps 0.7 * 10 from needing eight of ten.
            needed=max(1, math.ceil(needed - 1e-9)),
            opened_at=now,
            deadline_at=now + self._policy.deadline_s,
        )

    def _reason_to_close(self, current: r.Round) -> str:
        updates, has_open_work = self._store.standing(current.number)
        if updates >= current.needed:
            return "quorum"
        if not has_open_work:
            return "complete"
        return "deadline" if self._deadline.left_s(current) <= 0 else ""

    def _stop(self, current: r.Round, reason: str) -> None:
        point("round.stop.before-commit")
        self._store.stop_round(current.number, reason)
        point("round.stop.committed")

    def _close(self, current: r.Round) -> None:
        give_back()  # of the uploads, before models take its place
        # No update can be accepted any more, so what is folded is all that was acknowledged.
        with span("fold"):
            updates = self._store.updates(current.number)
            folded = fold(self._versions, self._policy, current, updates)
        point("round.close.folded")
        now = self._clock.wall()
        version = self._kept(current, folded, now) if folded else None
        point("round.close.before-commit")
        self._store.close_round(current.number, now, version)
        point("round.close.committed")
        for assignment in self._store.assignments(r.FEDERATE, current.number):
            self._versions.blobs.drop_partials(assignment.lease)
            if folded and version:  # now, while the model is in memory
                self._versions.cut(version.number, assignment.plan.exit_depth, folded.model)
        point("round.close.cut")
        seconds = round(now - current.opened_at, 3)
        count = folded.updates if folded else 0
        facts = {"updates": count, "reason": current.reason, "seconds": seconds}
        logger.info("Round closed", extra=facts)

    def _kept(self, current: r.Round, folded: Folded, now: float) -> r.Version:
        model = self._versions.keep(folded.model)
        point("round.close.model-kept")
        memory = self._versions.keep(folded.memory) if folded.memory else None
        return r.Version(current.base_version + 1, model, now, optimizer=memory)

    def _hand_out_personal_work(self) -> None:
        number = self._policy.total + 1
        base = self._store.latest_version()
        if base is None:
            return
        for devices in batches(self._store.ready_without(r.PERSONALIZE, number)):
            work = [self._assignment(d, r.PERSONALIZE, number, base.number) for d in devices]
            point("personal.before-commit")
            self._store.add_assignments(work)
            point("personal.committed")

    def _assignment(self, device: r.Device, kind: str, number: int, base: int) -> r.Assignment:
        work = work_for(device, kind, number, base, self._versions, self._clock)
        if kind != r.FEDERATE:
            return work
        return replace(work, plan=self._policy.negotiated(work.plan, device.codecs))
