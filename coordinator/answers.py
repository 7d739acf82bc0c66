"""Records of the store as the messages that operators get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from coordinator import records as r
from coordinator.pulse import Told
from coordinator.status import doing_of
from coordinator.store.overview import RoundCounts, WorkDone
from devices.profile import DeviceProfile
from reefleet.report import DeviceMetrics, EarlyExitReport
from reefleet.v1 import fleet_pb2, operator_pb2, plan_pb2
from reefleet.wire import convert

_KINDS = {
    r.FEDERATE: fleet_pb2.TASK_KIND_FEDERATE,
    r.PERSONALIZE: fleet_pb2.TASK_KIND_PERSONALIZE,
    r.DEPLOY: fleet_pb2.TASK_KIND_DEPLOY,
}


def device_message(device: r.Device, doing: str, *, is_there: bool) -> operator_pb2.DeviceSummary:
    """One line of the list of devices."""
    return operator_pb2.DeviceSummary(
        device_id=device.device_id,
        doing=doing_of(device, doing, is_compiled=is_there),
        board=str((device.profile or {}).get("board", "")),
        plan=_bare_plan(device),
        failure=device.failure,
        enrolled_at=device.enrolled_at,
        last_seen_at=device.last_seen_at,
        revoked_at=device.revoked_at,
        certificate_ends_at=device.certificate_ends_at,
    )


def _bare_plan(device: r.Device) -> plan_pb2.SubmodelPlan | None:
    """The plan without its reasons, which fill a page."""
    if device.plan is None:
        return None
    message = convert.plan_to_pb(device.plan)
    del message.why[:]
    return message


def round_message(found: r.Round, counts: RoundCounts) -> operator_pb2.RoundSummary:
    """One round."""
    return operator_pb2.RoundSummary(
        number=found.number,
        state=found.state,
        reason=found.reason,
        base_version=found.base_version,
        result_version=found.result_version,
        opened_at=found.opened_at,
        deadline_at=found.deadline_at,
        closed_at=found.closed_at,
        cohort=counts.cohort,
        needed=found.needed,
        updates=counts.updates,
        refused=counts.refused,
        update_bytes=counts.update_bytes,
        loss=counts.loss,
    )


def work_message(work: WorkDone) -> operator_pb2.Work:
    """One piece of work."""
    return operator_pb2.Work(
        lease=work.lease,
        kind=_KINDS[work.kind],
        round=work.round,
        device_id=work.device_id,
        state=work.state,
        reason=work.reason,
        exit_depth=work.plan.exit_depth,
        bits=work.plan.bits,
        opened_at=work.opened_at,
        accepted_at=work.accepted_at,
        samples=work.samples,
        update_bytes=work.update_bytes,
        metrics=metrics_message(work.metrics) if work.metrics else None,
    )


def refusals_message(found: list[r.Refusal]) -> list[operator_pb2.Refusal]:
    """What was not taken."""
    return [
        operator_pb2.Refusal(round=one.round, device_id=one.device_id, reason=one.reason, at=one.at)
        for one in found
    ]


def profile_message(values: Mapping[str, Any] | None) -> plan_pb2.DeviceProfile | None:
    """What a device told of itself."""
    return convert.profile_to_pb(DeviceProfile.from_json(values)) if values else None


def metrics_message(values: Mapping[str, Any]) -> fleet_pb2.DeviceMetrics:
    """What a device reported; as it was checked when it came in."""
    if None not in values.values():  # which would be taken for 0
        try:
            return fleet_pb2.DeviceMetrics(**values)
        except (TypeError, ValueError):
            pass  # of another version of the program
    return convert.metrics_to_pb(DeviceMetrics.from_json(values))


def vitals_message(told: Told | None) -> operator_pb2.Vitals | None:
    """What a device said over the broker."""
    if told is None:
        return None
    return operator_pb2.Vitals(online=told.is_online, told_at=told.at, **asdict(told.vitals))


def early_exit_message(values: Mapping[str, Any]) -> fleet_pb2.EarlyExitReport:
    """How a device answers."""
    return convert.early_exit_to_pb(EarlyExitReport.from_json(values))
