"""Asynchronous rounds (FedBuff, Nguyen et al., AISTATS 2022, algorithm 1): no cohort, no deadline.

Whoever asks gets work on the newest version. Accepted updates wait in the store; every `buffer` of
them are folded into the next version, each shortened by how many versions it is behind. A round is
what happens between two versions. Work that is too far behind to count is ended.
"""

from __future__ import annotations

import threading

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import RoundPolicy
from coordinator.faults import point
from coordinator.gate import Gate
from coordinator.rounds import Finished, Rounds, Wait
from coordinator.store import Store
from coordinator.versions import Versions


class BufferedRounds(Rounds):
    """One asynchronous run; it keeps the same state as a synchronous one and may go on as one."""

    def __init__(
        self, store: Store, versions: Versions, policy: RoundPolicy, gate: Gate, clock: Clock
    ) -> None:
        super().__init__(store, versions, policy, gate, clock)
        self._handing_out = threading.Lock()  # two questions of one device, one piece of work

    def next_task(self, device_id: str) -> r.Assignment | Wait | Finished:
        """What the device does now: the same lease until its work is over, then new work."""
        found = super().next_task(device_id)
        if not isinstance(found, Wait):
            return found
        with self._handing_out:
            work = self._store.open_assignment(device_id) or self._new_work(device_id)
        if work:
            self._gate.presence.working(device_id)
        return work or found

    def seconds_left(self) -> float:
        """A whole piece of work's time: no deadline hangs over the devices together."""
        return self._policy.deadline_s

    def turn(self, work: r.Assignment) -> int:
        """How many pieces of work of this round the device has had before."""
        return self._store.earlier_work(work)

    def _new_work(self, device_id: str) -> r.Assignment | None:
        current = self._store.current_round()
        device = self._store.device(device_id)
        if current is None or current.state != r.OPEN or self._store.fact(r.PAUSED):
            return None
        if device is None or not self._store.is_ready(device) or not self._gate.lets_in(device):
            return None
        work = self._assignment(device, r.FEDERATE, current.number, current.base_version)
        point("async.work.before-commit")
        self._store.add_assignment(work)
        point("async.work.committed")
        return work

    def _open(self, number: int) -> bool:
        if not self._gate.may_hold(self._policy.min_devices):
            return False
        base = self._store.latest_version()
        ready = [device for device in self._store.ready() if self._gate.lets_in(device)]
        if base is None or len(ready) < self._policy.min_devices:
            return False
        opened = self._new_round(number, base.number, self._policy.buffer)
        self._store.add_round(opened, [], keeps_work=True)
        return True

    def _reason_to_close(self, current: r.Round) -> str:
        return "buffer" if self._store.waiting_updates() >= current.needed else ""

    def _stop(self, current: r.Round, reason: str) -> None:
        point("async.stop.before-commit")
        self._store.stop_round(current.number, reason, most=current.needed, ends_work=False)
        point("async.stop.committed")

    def _close(self, current: r.Round) -> None:
        super()._close(current)
        newest = self._store.latest_version()
        oldest = (newest.number if newest else 0) - self._policy.max_staleness
        reason = f"it started more than {self._policy.max_staleness} versions ago"
        for lease in self._store.end_federated_work(reason, base_below=oldest):
            self._versions.blobs.drop_partials(lease)

    def _hand_out_personal_work(self) -> None:
        self._store.end_federated_work("the run is over")
        super()._hand_out_personal_work()


def rounds_for(
    store: Store, versions: Versions, policy: RoundPolicy, gate: Gate, clock: Clock
) -> Rounds:
    """The rounds that the policy asks for."""
    kind = BufferedRounds if policy.mode == "async" else Rounds
    return kind(store, versions, policy, gate, clock)
