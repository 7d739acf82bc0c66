"""From a device's profile to its plan and the bundle that this needs."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict

from coordinator.bundles import Bundles
from coordinator.planner import Budget, plan_for
from coordinator.records import Device
from coordinator.store import Store
from devices.profile import DeviceProfile
from reefleet.errors import PlanError
from reefleet.model import ModelSpec

logger = logging.getLogger(__name__)


class Planning:
    """Plans devices under one budget and has their bundles made."""

    def __init__(self, store: Store, bundles: Bundles, spec: ModelSpec, budget: Budget) -> None:
        self._store = store
        self._bundles = bundles
        self._spec = spec
        self._budget = budget

    def report(self, device: Device, profile: DeviceProfile) -> None:
        """Keep a device's profile and plan it; raises NoFeasiblePlan or UnknownBoard.

        A plan once made is kept while model, budget and board stay: free memory wavers, and a
        device that restarts must find its work as it left it.
        """
        planned_for = self._dependencies(profile)
        plan = device.plan
        if plan is None or device.planned_for != planned_for:
            try:
                plan = plan_for(profile, self._spec, self._budget)
            except PlanError as error:
                self._store.set_failure(device.device_id, profile.to_json(), str(error))
                raise
            facts = {"depth": plan.exit_depth, "bits": plan.bits, "codec": plan.codec}
            logger.info("Device planned", extra=facts)
        key = self._bundles.key(plan)
        self._store.set_plan(device.device_id, profile.to_json(), plan, planned_for, key)
        self._bundles.want(plan)

    def resume(self) -> None:
        """After a restart: see that every planned device gets its bundle, failed ones included."""
        for device in self._store.devices():
            if device.plan:
                key = self._bundles.key(device.plan)
                self._store.set_bundle_key(device.device_id, key)
                self._bundles.want(device.plan)

    def _dependencies(self, profile: DeviceProfile) -> str:
        parts = [self._spec.to_json(), asdict(self._budget), profile.board]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
