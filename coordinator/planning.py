"""From a device's profile to its plan and the bundle that this needs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace

from coordinator.bundles import Bundles
from coordinator.planner import AccuracyTable, Budget, decide, default_table
from coordinator.planner.bounds import bounds_of
from coordinator.planner.explain import explained
from coordinator.planner.hysteresis import place_of
from coordinator.planner.options import Candidate, Options, options_of
from coordinator.planner.solve import Decision
from coordinator.records import Device, Planned
from coordinator.store import Store
from devices.capability import Capability, capability_of
from devices.cost import train_steps
from devices.profile import DeviceProfile
from reefleet.errors import PlanError
from reefleet.geometry.trained import FULL
from reefleet.model import ModelSpec
from reefleet.plan import SubmodelPlan, codec_stages

logger = logging.getLogger(__name__)

# Free memory wavers; a plan is outgrown only where a bound is missed by more than this.
OUTGROWN = 1.1


class Planning:
    """Plans devices under one budget and has their bundles made."""

    def __init__(
        self,
        store: Store,
        bundles: Bundles,
        spec: ModelSpec,
        budget: Budget,
        table: AccuracyTable | None = None,
        trained: str = FULL,
    ) -> None:
        self._store = store
        self._bundles = bundles
        self._spec = spec
        # Two models are trained in full or not at all: QuPeD moves every weight to a center.
        self._budget = budget if trained == FULL else replace(budget, max_models=1)
        self._trained = trained
        self._table = table or default_table(spec)

    @property
    def options(self) -> Options:
        """What there is to choose from."""
        return options_of(self._spec, self._budget, self._table)

    def report(self, device: Device, profile: DeviceProfile) -> None:
        """Keep a device's profile and plan it; raises NoFeasiblePlan or UnknownBoard.

        A plan once made is kept while model, budget and board stay and nothing grew too small for
        it: a device that restarts must find its work as it left it.
        """
        planned_for = self._dependencies(profile)
        plan = device.plan
        try:
            able = capability_of(profile)
            if plan is None or device.planned_for != planned_for or self._outgrown(able, plan):
                plan = explained(decide(able, self.options))
        except PlanError as error:
            self._store.set_failure(device.device_id, profile.to_json(), str(error))
            raise
        self._keep([(device, profile, plan)])

    def change(self, changes: Sequence[tuple[Device, Decision]]) -> None:
        """Give devices that have reported other plans than they had, all in one transaction."""
        self._keep([(device, profile_of(device), explained(new)) for device, new in changes])

    def resume(self) -> None:
        """After a restart: see that every planned device gets its bundle, failed ones included."""
        planned = [(device, device.plan) for device in self._store.devices() if device.plan]
        keys = {plan: self._bundles.key(plan) for plan in {plan for _, plan in planned}}
        outdated = {
            device.device_id: keys[plan]
            for device, plan in planned
            if keys[plan] != device.bundle_key or device.failure
        }
        self._store.set_bundle_keys(outdated)
        for plan in keys:
            self._bundles.want(plan)

    def _keep(self, planned: Sequence[tuple[Device, DeviceProfile, SubmodelPlan]]) -> None:
        kept = []
        for device, profile, bare in planned:
            plan = replace(bare, trained=self._trained)
            facts = {"depth": plan.exit_depth, "bits": plan.bits, "codec": plan.codec}
            logger.info("Device planned", extra={"device": device.device_id, **facts})
            depends, key = self._dependencies(profile), self._bundles.key(plan)
            kept.append(Planned(device.device_id, profile.to_json(), plan, depends, key))
        self._store.set_plans(kept)
        for plan in {one.plan for one in kept}:
            self._bundles.want(plan)

    def _outgrown(self, device: Capability, plan: SubmodelPlan) -> bool:
        options = self.options
        place = place_of(options, candidate_of(plan, device.train_samples, self._budget))
        if place is None:
            return True
        return any(
            bound.of(options, place).ratio > OUTGROWN for bound in bounds_of(device, options)
        )

    def _dependencies(self, profile: DeviceProfile) -> str:
        parts = [
            self._spec.to_json(),
            asdict(self._budget),
            self._table.to_json(),
            profile.board,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def candidate_of(plan: SubmodelPlan, samples: int | None, budget: Budget) -> Candidate:
    """What a plan for a device of so many samples chose, as the planner's options have it."""
    epochs = float(plan.local_epochs)
    if plan.local_steps:
        whole = train_steps(samples or budget.default_samples, plan.batch_size, 1)
        share = plan.local_steps / whole
        epochs = min(budget.efforts, key=lambda effort: abs(effort - share))
    return Candidate(
        plan.exit_depth,
        plan.bits,
        plan.models,
        plan.batch_size,
        epochs,
        codec_stages(plan.codec)[-1].name,
        plan.trained,
        plan.layer_bits,
    )


def profile_of(device: Device) -> DeviceProfile:
    """What a device last reported; raises ConfigError where it is from a newer program."""
    return DeviceProfile.from_json(device.profile or {"board": ""})
