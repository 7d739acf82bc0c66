"""The one door between the wire's messages and the dataclasses everything else speaks.

Values that a peer must not send end as WireError; a value that is not known stays None.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from google.protobuf.message import Message

from devices.conditions import Conditions
from devices.profile import DeviceProfile, Timing
from reefleet.errors import ConfigError, WireError
from reefleet.plan import SubmodelPlan
from reefleet.report import DeviceMetrics, EarlyExitReport
from reefleet.v1 import fleet_pb2, plan_pb2

_PROFILE_OPTIONAL = (
    "memory_available_mib",
    "cores",
    "storage_free_bytes",
    "train_samples",
    "memory_total_mib",
    "memory_limit_mib",
    "cpus",
    "network_mbps",
    "wired",
    "storage_read_mbs",
    "storage_write_mbs",
    "taken_at",
)
_CONDITIONS_OPTIONAL = (
    "clock_mhz",
    "temperature_c",
    "throttled",
    "on_mains",
    "battery_percent",
    "metered",
)


_OUTCOMES = {
    fleet_pb2.DEPLOYMENT_OUTCOME_INSTALLED: "installed",
    fleet_pb2.DEPLOYMENT_OUTCOME_RESTORED: "restored",
    fleet_pb2.DEPLOYMENT_OUTCOME_KEPT: "kept",
}


def plan_to_pb(plan: SubmodelPlan) -> plan_pb2.SubmodelPlan:
    """The plan as a message."""
    return plan_pb2.SubmodelPlan(
        exit_depth=plan.exit_depth,
        bits=plan.bits,
        batch_size=plan.batch_size,
        local_epochs=plan.local_epochs,
        models=plan.models,
        codec=plan.codec,
        why=plan.why,
        layer_bits=plan.layer_bits,
        trained=plan.trained,
        local_steps=plan.local_steps,
    )


def plan_from_pb(message: plan_pb2.SubmodelPlan) -> SubmodelPlan:
    """The plan in a message; raises WireError naming a value that no device can obey."""
    with _checked("plan"):
        return SubmodelPlan(
            exit_depth=message.exit_depth,
            bits=message.bits,
            batch_size=message.batch_size,
            local_epochs=message.local_epochs,
            models=message.models,
            codec=message.codec,
            why=tuple(message.why),
            layer_bits=tuple(message.layer_bits),
            trained=message.trained or "full",
            local_steps=message.local_steps,
        )


def profile_to_pb(profile: DeviceProfile) -> plan_pb2.DeviceProfile:
    """The profile as a message, unknown values unset; raises WireError for a value too large."""
    with _checked("device profile"):
        return plan_pb2.DeviceProfile(
            board=profile.board,
            runtimes=profile.runtimes,
            isa=profile.isa,
            model=profile.model,
            cpu=profile.cpu,
            system=profile.system,
            conditions=plan_pb2.Conditions(**asdict(profile.conditions)),
            threads=profile.threads,
            timings=[plan_pb2.Timing(**asdict(timing)) for timing in profile.timings],
            signature=bytes.fromhex(profile.signature),
            **{name: getattr(profile, name) for name in _PROFILE_OPTIONAL},
        )


def profile_from_pb(message: plan_pb2.DeviceProfile) -> DeviceProfile:
    """The profile in a message; raises WireError naming a value that no board can have."""
    with _checked("device profile"):
        return DeviceProfile(
            board=message.board,
            runtimes=dict(message.runtimes),
            isa=tuple(message.isa),
            model=message.model,
            cpu=message.cpu,
            system=message.system,
            conditions=conditions_from_pb(message.conditions),
            threads=message.threads or 1,
            timings=tuple(_timing(timing) for timing in message.timings),
            signature=message.signature.hex(),
            **{name: _known(message, name) for name in _PROFILE_OPTIONAL},
        )


def conditions_to_pb(conditions: Conditions) -> plan_pb2.Conditions:
    """The conditions as a message, unknown values unset; raises WireError for one too large."""
    with _checked("conditions"):
        return plan_pb2.Conditions(**asdict(conditions))


def conditions_from_pb(message: plan_pb2.Conditions) -> Conditions:
    """The conditions in a message, as the device gave them."""
    known = {name: _known(message, name) for name in _CONDITIONS_OPTIONAL}
    return Conditions(power_mode=message.power_mode, **known)


def _timing(message: plan_pb2.Timing) -> Timing:
    return Timing(
        work=message.work,
        probe=message.probe,
        depth=message.depth,
        batch=message.batch,
        ms=message.ms,
        rel_sigma=message.rel_sigma,
        peak_mib=_known(message, "peak_mib"),
    )


def metrics_to_pb(metrics: DeviceMetrics) -> fleet_pb2.DeviceMetrics:
    """The figures as a message; raises WireError for a count that is negative or too large."""
    with _checked("device metrics"):
        return fleet_pb2.DeviceMetrics(
            loss=metrics.loss,
            shared_accuracy=metrics.shared_accuracy,
            personal_accuracy=metrics.personal_accuracy,
            held_out_samples=metrics.held_out_samples,
            bytes_down=metrics.bytes_down,
            bytes_up=metrics.bytes_up,
            peak_resident_bytes=metrics.peak_resident_bytes,
            train_seconds=metrics.train_seconds,
            steps=metrics.steps,
            steps_asked=metrics.steps_asked,
        )


def metrics_from_pb(message: fleet_pb2.DeviceMetrics) -> DeviceMetrics:
    """The figures in a message, as the device gave them."""
    return DeviceMetrics(
        loss=message.loss,
        shared_accuracy=tuple(message.shared_accuracy),
        personal_accuracy=tuple(message.personal_accuracy),
        held_out_samples=message.held_out_samples,
        bytes_down=message.bytes_down,
        bytes_up=message.bytes_up,
        peak_resident_bytes=message.peak_resident_bytes,
        train_seconds=message.train_seconds,
        steps=message.steps,
        steps_asked=message.steps_asked,
    )


def early_exit_to_pb(report: EarlyExitReport) -> fleet_pb2.EarlyExitReport:
    """The report as a message; raises WireError for a count that is negative or too large."""
    with _checked("early-exit report"):
        return fleet_pb2.EarlyExitReport(
            accuracy=report.accuracy,
            full_depth_accuracy=report.full_depth_accuracy,
            mean_exit_depth=report.mean_exit_depth,
            p50_ms=report.p50_ms,
            full_depth_p50_ms=report.full_depth_p50_ms,
            packed_bytes=report.packed_bytes,
            thresholds=report.thresholds,
            exit_share=report.exit_share,
        )


def early_exit_from_pb(message: fleet_pb2.EarlyExitReport) -> EarlyExitReport:
    """The report in a message, as the device gave it."""
    return EarlyExitReport(
        accuracy=message.accuracy,
        full_depth_accuracy=message.full_depth_accuracy,
        mean_exit_depth=message.mean_exit_depth,
        p50_ms=message.p50_ms,
        full_depth_p50_ms=message.full_depth_p50_ms,
        packed_bytes=message.packed_bytes,
        thresholds=tuple(message.thresholds),
        exit_share=tuple(message.exit_share),
    )


def outcome_to_pb(outcome: str) -> fleet_pb2.DeploymentOutcome:
    """A deployment's outcome as its enum value; raises WireError for an unknown one."""
    for value, name in _OUTCOMES.items():
        if name == outcome:
            return value
    msg = f"{outcome!r} is no outcome of a deployment"
    raise WireError(msg)


def outcome_from_pb(value: int) -> str:
    """The outcome that an enum value means; raises WireError for one of a newer client."""
    for known, name in _OUTCOMES.items():
        if known == value:
            return name
    msg = f"the deployment ended with outcome {value}, which is unknown here"
    raise WireError(msg)


def _known(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


@contextmanager
def _checked(what: str) -> Iterator[None]:
    try:
        yield
    except (ConfigError, TypeError, ValueError) as error:
        msg = f"the {what} cannot be used: {error}"
        raise WireError(msg) from error
