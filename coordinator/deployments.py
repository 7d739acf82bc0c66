"""Deployments: a version goes to the devices, to a few canaries first where the operator asks so.

Each device fits and tests its own sub-model from the version and keeps the better one. Canaries
are devices that called lately, chosen by a digest of deployment and name. When every canary has
answered, or at the deadline, the version goes to all if enough of them kept it; else it is halted
and the canaries go back. Everything is in the store, so a restart goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import DeploymentPolicy
from coordinator.presence import Presence
from coordinator.store.deployments import UNDER_WAY
from coordinator.versions import Versions
from coordinator.work import batches, work_for
from reefleet.errors import InputError, Rejected, WireError
from reefleet.report import EarlyExitReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a device did: installed, restored or kept; accuracies are of its own test."""

    outcome: str
    accuracy: float
    accuracy_before: float | None
    early_exit: EarlyExitReport


class Deployments:
    """Deployments of the versions in a store. `advance` belongs to one thread, the rest to any."""

    def __init__(
        self, versions: Versions, policy: DeploymentPolicy, presence: Presence, clock: Clock
    ) -> None:
        self._store = versions.store
        self._versions = versions
        self._policy = policy
        self._presence = presence
        self._clock = clock
        self._deciding = threading.Lock()  # an operator and the scheduler take turns

    def deploy(self, version: int, share: float) -> r.Deployment:
        """Send a version to `share` of the devices first, then to all; 1.0 sends it to all at once.

        Raises InputError for a share out of (0, 1] or a version that is not kept, Rejected where
        no device is ready.
        """
        with self._deciding:
            return self._deploy(version, share)

    def _deploy(self, version: int, share: float) -> r.Deployment:
        if not 0 < share <= 1:
            msg = f"a share of {share:g} of the devices is not above 0 % and up to 100 %"
            raise InputError(msg)
        found = self._store.version(version)
        if found is None or found.is_retired:
            state = "was retired and is no longer kept" if found else "does not exist"
            msg = f"version {version} {state}; `reefleet coordinator versions` lists them"
            raise InputError(msg)
        latest = self._latest()
        number = latest.number + 1 if latest else 1
        devices = self._canaries(self._store.ready(), number, share)
        if not devices:
            msg = "no device is ready to take a deployment; see `reefleet coordinator devices`"
            raise Rejected(msg)
        begun = r.Deployment(
            number=number,
            version=version,
            share=share,
            state=r.CANARY if share < 1 else r.ROLLING,
            started_at=self._clock.wall(),
            previous=self._in_use(latest),
        )
        return self._begin(begun, devices)

    def rollback(self) -> r.Deployment:
        """Send devices back to the version before; raises Rejected where there is none."""
        with self._deciding:
            latest = self._latest()
            if latest is None:
                msg = "nothing has been deployed, so there is nothing to go back to"
                raise Rejected(msg)
            return self._back(latest, "an operator's rollback")

    def advance(self) -> None:
        """Decide about canaries that have answered, and hand out work to who has none yet."""
        with self._deciding:
            latest = self._latest()
            if latest is None or self._store.fact(r.PAUSED):
                return
            if latest.state == r.CANARY:
                self._judge(latest)
            elif latest.state in {r.ROLLING, r.DONE}:
                self._hand_out(latest)

    def take_report(self, device_id: str, lease: str, done: Outcome) -> None:
        """Make a report durable; again changes nothing.

        Raises Rejected for work of others, WireError for an accuracy that is none.
        """
        for accuracy in (done.accuracy, done.accuracy_before):
            if accuracy is not None and not 0 <= accuracy <= 1:
                msg = f"an accuracy of {accuracy:g} is not between 0 and 1"
                raise WireError(msg)
        work = self._store.assignment(lease)
        if work is None or work.device_id != device_id or work.kind != r.DEPLOY:
            msg = f"lease {lease[:64]!r} is not a deployment to this device"
            raise Rejected(msg)
        if work.state == r.COMMITTED:
            return
        report = r.DeploymentReport(
            deployment=work.round,
            device_id=device_id,
            outcome=done.outcome,
            accuracy=done.accuracy,
            accuracy_before=done.accuracy_before,
            early_exit=done.early_exit.to_json(),
            at=self._clock.wall(),
        )
        self._store.add_deployment_report(lease, report)
        facts = {"deployment": work.round, "version": work.base_version, "outcome": done.outcome}
        logger.info("Deployment reported", extra=facts)

    def _latest(self) -> r.Deployment | None:
        found = self._store.last_deployments(1)
        return found[0] if found else None

    def _in_use(self, latest: r.Deployment | None) -> int | None:
        if latest is None:
            return self._store.personal_version()
        return latest.previous if latest.state == r.HALTED else latest.version

    def _begin(self, begun: r.Deployment, devices: Sequence[r.Device]) -> r.Deployment:
        self._store.begin_deployment(begun, [self._work(device, begun) for device in devices])
        facts = {
            "deployment": begun.number,
            "version": begun.version,
            "devices": len(devices),
            "is_rollback": begun.is_rollback,
        }
        logger.warning("Deployment begun", extra=facts)
        return begun

    def _canaries(self, ready: list[r.Device], number: int, share: float) -> list[r.Device]:
        if share >= 1:
            return ready
        present = [d for d in ready if self._presence.is_present(d.device_id)] or ready
        present.sort(key=lambda d: hashlib.sha256(f"{number} {d.device_id}".encode()).digest())
        # The slack keeps 0.1 * 30 from asking four devices.
        return present[: max(1, math.ceil(share * len(ready) - 1e-9))] if ready else []

    def _judge(self, latest: r.Deployment) -> None:
        counts = self._store.deployment_counts(latest.number)
        answered = counts.taken + counts.kept
        is_due = self._clock.wall() - latest.started_at >= self._policy.canary_deadline_s
        if answered < counts.devices and not is_due:
            return
        told = f"{counts.taken} of {counts.devices} canaries kept it"
        facts = {"deployment": latest.number, "version": latest.version, "reason": told}
        if counts.taken >= self._policy.pass_share * counts.devices - 1e-9:
            self._store.move_deployment(latest.number, r.ROLLING, None, told)
            logger.warning("Canaries passed", extra=facts)
            return
        self._store.move_deployment(latest.number, r.HALTED, self._clock.wall(), told)
        logger.error("Deployment halted", extra=facts)
        if latest.previous is not None and self._store.touched_by(latest.number):
            self._back(latest, told)

    def _back(self, latest: r.Deployment, reason: str) -> r.Deployment:
        touched = set(self._store.touched_by(latest.number))
        devices = [device for device in self._store.ready() if device.device_id in touched]
        nowhere = latest.previous is None and not self._store.deployment_counts(latest.number).taken
        if latest.state in UNDER_WAY and (nowhere or not devices):
            self._store.move_deployment(latest.number, r.HALTED, self._clock.wall(), reason)
            logger.warning("Deployment halted", extra={"deployment": latest.number})
            return replace(latest, state=r.HALTED, reason=reason)
        target = latest.previous
        found = self._store.version(target) if target is not None else None
        if not devices or found is None or found.is_retired:
            cause = "replaced no version that is still kept" if devices else "reached no device"
            msg = f"deployment {latest.number} {cause}, so there is nothing to go back to"
            raise Rejected(msg)
        begun = r.Deployment(
            number=latest.number + 1,
            version=found.number,
            share=1.0,
            state=r.ROLLING,
            started_at=self._clock.wall(),
            previous=latest.version,
            is_rollback=True,
            reason=reason,
        )
        return self._begin(begun, devices)

    def _hand_out(self, latest: r.Deployment) -> None:
        if not latest.is_rollback:
            for devices in batches(self._store.ready_without(r.DEPLOY, latest.number)):
                self._store.add_assignments([self._work(device, latest) for device in devices])
        is_over = latest.state == r.ROLLING
        if is_over and not self._store.has_open_work(r.DEPLOY, latest.number):
            self._store.move_deployment(latest.number, r.DONE, self._clock.wall(), latest.reason)
            logger.info("Deployment done", extra={"deployment": latest.number})

    def _work(self, device: r.Device, deployment: r.Deployment) -> r.Assignment:
        return work_for(
            device, r.DEPLOY, deployment.number, deployment.version, self._versions, self._clock
        )
