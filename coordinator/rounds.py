"""The rounds of a run: open, wait for updates, fold them, publish; then personal work for each.

A round opens when enough devices are ready, with one lease a device. Updates arrive through
`coordinator.updates`. The round closes at quorum, at its deadline or when nobody works any more:
each tensor moves by the weighted mean over its holders, updates folded one at a time in device
order, so that the new version depends on nothing but the stored updates. All of it is in the store
before anybody hears of it; a coordinator killed anywhere goes on from there.
"""

from __future__ import annotations

import logging
import math
import uuid
from dataclasses import dataclass

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import RoundPolicy
from coordinator.presence import Presence
from coordinator.sampling import cohort
from coordinator.store import Store
from coordinator.versions import Tensors, Versions
from reefleet import logs
from reefleet.aggregation.mean import HolderMean
from reefleet.errors import StoreError
from reefleet.model import tensor_shapes
from reefleet.wire.codecs import decode_update

logger = logging.getLogger(__name__)

RESTART_GRACE_S = 60.0  # nobody could push while the coordinator was down


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
        self,
        store: Store,
        versions: Versions,
        policy: RoundPolicy,
        presence: Presence,
        clock: Clock,
    ) -> None:
        self._store = store
        self._versions = versions
        self._policy = policy
        self._presence = presence
        self._clock = clock
        self._due: tuple[int, float] = (0, math.inf)  # round, end by the monotonic clock

    def next_task(self, device_id: str) -> r.Assignment | Wait | Finished:
        """What the device does now; the same lease again until its work is over."""
        if assignment := self._store.open_assignment(device_id):
            return assignment
        total = self._policy.total
        if self._store.rounds_closed() >= total:
            last = self._store.assignment_of(r.PERSONALIZE, total + 1, device_id)
            if last and last.state == r.COMMITTED:
                return Finished()
        return Wait(self._policy.poll_ms)

    def seconds_left(self) -> float:
        """Until the open round's deadline; a whole round's time where none is open."""
        current = self._store.current_round()
        return self._left_s(current) if current else self._policy.deadline_s

    def advance(self) -> None:
        """Close and open whatever is due now."""
        while self._step():
            pass

    def _step(self) -> bool:
        if current := self._store.current_round():
            with logs.context(round_number=current.number):
                if current.state == r.OPEN and (reason := self._reason_to_close(current)):
                    self._store.stop_round(current.number, reason)
                elif current.state == r.CLOSING:
                    self._close(current)
                else:
                    return False
            return True
        if self._store.fact(r.PAUSED):
            return False
        closed = self._store.rounds_closed()
        if closed < self._policy.total:
            return self._open(closed + 1)
        self._hand_out_personal_work()
        return False

    def _open(self, number: int) -> bool:
        base = self._store.latest_version()
        ready = [d for d in self._store.ready() if self._presence.is_present(d.device_id)]
        if base is None or len(ready) < self._policy.min_devices:
            return False
        devices = cohort(ready, self._policy.cohort, seed=number)
        now = self._clock.wall()
        opened = r.Round(
            number=number,
            base_version=base.number,
            state=r.OPEN,
            # The slack keeps 0.7 * 10 from needing eight of ten.
            needed=max(1, math.ceil(self._policy.quorum * len(devices) - 1e-9)),
            opened_at=now,
            deadline_at=now + self._policy.deadline_s,
        )
        work = [self._assignment(d, r.FEDERATE, number, base.number) for d in devices]
        self._store.add_round(opened, work)
        facts = {"round": number, "devices": len(work), "base_version": base.number}
        logger.info("Round opened", extra=facts)
        return True

    def _reason_to_close(self, current: r.Round) -> str:
        states = [a.state for a in self._store.assignments(r.FEDERATE, current.number)]
        if states.count(r.COMMITTED) >= current.needed:
            return "quorum"
        if r.OPEN not in states:
            return "complete"
        return "deadline" if self._left_s(current) <= 0 else ""

    def _close(self, current: r.Round) -> None:
        # No update can be accepted any more, so what is folded is all that was acknowledged.
        model, updates = self._fold(current)
        version = None
        now = self._clock.wall()
        if updates:
            version = r.Version(current.base_version + 1, self._versions.keep(model), now)
        self._store.close_round(current.number, now, version)
        for assignment in self._store.assignments(r.FEDERATE, current.number):
            self._versions.blobs.drop_partials(assignment.lease)
            if version:  # now, while the model is in memory
                self._versions.cut(version.number, assignment.plan.exit_depth, model)
        seconds = round(now - current.opened_at, 3)
        facts = {"updates": updates, "reason": current.reason, "seconds": seconds}
        logger.info("Round closed", extra=facts)

    def _fold(self, current: r.Round) -> tuple[Tensors, int]:
        rule = HolderMean()
        model = self._versions.load(current.base_version)
        state = rule.init(model)
        for update in self._store.updates(current.number):
            shapes = tensor_shapes(self._versions.spec, update.depth)
            delta = decode_update(self._versions.blobs.read(update.artifact.sha256), shapes)
            state = rule.fold(state, delta, float(update.samples))
            del delta  # two decoded updates at once would be one too many
        return (rule.finish(state, model) if state.updates else model), state.updates

    def _hand_out_personal_work(self) -> None:
        number = self._policy.total + 1
        base = self._store.latest_version()
        has_work = {a.device_id for a in self._store.assignments(r.PERSONALIZE, number)}
        for device in self._store.ready():
            if base and device.device_id not in has_work:
                work = self._assignment(device, r.PERSONALIZE, number, base.number)
                self._store.add_assignment(work)

    def _assignment(self, device: r.Device, kind: str, number: int, base: int) -> r.Assignment:
        bundle = self._store.bundle(device.bundle_key)
        if bundle is None or device.plan is None:
            msg = f"device {device.device_id} was called ready without a plan and a bundle"
            raise StoreError(msg)
        return r.Assignment(
            lease=uuid.uuid4().hex,
            kind=kind,
            round=number,
            device_id=device.device_id,
            plan=device.plan,
            base_version=base,
            manifest=bundle.manifest,
            signature=bundle.signature,
            weights=self._versions.cut(base, device.plan.exit_depth).artifact,
            opened_at=self._clock.wall(),
        )

    def _left_s(self, current: r.Round) -> float:
        number, end = self._due
        if number != current.number:
            # Right after opening, or after a restart, when only the wall clock knows: trust it
            # within bounds, because it may have jumped.
            least = min(RESTART_GRACE_S, self._policy.deadline_s)
            left = min(
                max(current.deadline_at - self._clock.wall(), least), self._policy.deadline_s
            )
            end = self._clock.monotonic() + left
            self._due = (current.number, end)
        return end - self._clock.monotonic()
