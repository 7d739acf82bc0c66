"""From the coordinator's status to what the demo shows: moments, results, accuracy by round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.status import (
    FINISHED,
    PERSONALIZING,
    PRETRAINING,
    DeviceStatus,
    FleetStatus,
)
from reefleet.demo.processes import ChildFailed
from reefleet.demo.progress import DeviceLine, Moment, remaining_s
from reefleet.demo.results import Result
from reefleet.demo.scenario import BOARDS
from reefleet.model import ModelSpec, parameter_count
from reefleet.report import DeviceMetrics, EarlyExitReport

# Shares of the bar: the rounds take most of the time.
PRETRAINED, COMPILED, ROUNDS_CLOSED = 0.15, 0.3, 0.85

ACTIVITIES = {
    "federate": "training",
    "personalize": "personalizing",
    "compiling": "bundle compiles",
    "enrolled": "enrolled",
    "idle": "waiting",
    "failed": "failed",
    "done": "done",
}


def moment(status: FleetStatus) -> Moment:
    """What the live view shows of this status."""
    phase, done = _phase(status)
    left_s = None
    if status.rounds_closed:
        spans = [r.closed_at - r.opened_at for r in status.rounds if r.closed_at is not None]
        waiting = sum(device.personal is None for device in status.devices)
        share = waiting / max(1, len(status.devices))
        left_s = remaining_s(spans, status.rounds_total - status.rounds_closed, share)
    return Moment(phase, done, left_s, tuple(_line(device) for device in _by_size(status)))


def results(status: FleetStatus, spec: ModelSpec) -> list[Result]:
    """Each device's figures, smallest board first; raises ChildFailed where one has none."""
    return [_result(device, parameter_count(spec) * 4) for device in _by_size(status)]


def accuracy_by_round(status: FleetStatus) -> dict[str, list[tuple[int, float]]]:
    """Accuracy of the shared model at each device's deepest exit, as each round began.

    All on the device's validation images. The final figures are of its test images, so they are
    not part of these curves.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for device in status.devices:
        points = [(work.round, _metrics(work.metrics).shared_accuracy) for work in device.work]
        curves[device.device_id] = [(number, shares[-1]) for number, shares in points if shares]
    return curves


def _phase(status: FleetStatus) -> tuple[str, float]:
    total, closed = status.rounds_total, status.rounds_closed
    if status.phase == PRETRAINING:
        return "pretraining on the public part", 0.0
    if not status.rounds:
        ready = status.ready_devices / status.min_devices
        text = f"planning and compiling, {status.ready_devices}/{status.min_devices} boards ready"
        return text, PRETRAINED + (COMPILED - PRETRAINED) * ready
    if status.phase in {PERSONALIZING, FINISHED}:
        reported = sum(device.personal is not None for device in status.devices)
        share = reported / max(1, len(status.devices))
        text = f"personalizing, {reported}/{len(status.devices)} boards done"
        return text, ROUNDS_CLOSED + (1 - ROUNDS_CLOSED) * share
    return f"round {min(closed + 1, total)}/{total}", (
        COMPILED + (ROUNDS_CLOSED - COMPILED) * closed / total
    )


def _by_size(status: FleetStatus) -> list[DeviceStatus]:
    return sorted(status.devices, key=lambda device: BOARDS.index(device.device_id))


def _line(device: DeviceStatus) -> DeviceLine:
    plan = device.plan or {}
    metrics = _metrics(device.work[-1].metrics) if device.work else DeviceMetrics()
    return DeviceLine(
        device.device_id,
        ACTIVITIES.get(device.doing, device.doing),
        plan.get("exit_depth"),
        plan.get("bits"),
        metrics.loss if device.work else None,
        metrics.shared_accuracy[-1] if metrics.shared_accuracy else None,
    )


def _result(device: DeviceStatus, full_model_bytes: int) -> Result:
    if device.plan is None or device.personal is None:
        msg = f"{device.device_id} has reported no personal model"
        raise ChildFailed(msg)
    last = _metrics(device.personal["metrics"])
    early = EarlyExitReport.from_json(device.personal["early_exit"])
    every = [_metrics(work.metrics) for work in device.work] + [last]
    return Result(
        device=device.device_id,
        exit_depth=device.plan["exit_depth"],
        bits=device.plan["bits"],
        shared_by_exit=tuple(last.shared_accuracy),
        personal_accuracy=last.personal_accuracy[-1],
        early_accuracy=early.accuracy,
        full_depth_accuracy=early.full_depth_accuracy,
        packed_bytes=early.packed_bytes,
        full_model_bytes=full_model_bytes,
        mean_exit_depth=early.mean_exit_depth,
        early_p50_ms=early.p50_ms,
        full_depth_p50_ms=early.full_depth_p50_ms,
        bytes_down=sum(metrics.bytes_down for metrics in every),
        bytes_up=sum(metrics.bytes_up for metrics in every),
        peak_resident_bytes=max(metrics.peak_resident_bytes for metrics in every),
    )


def _metrics(values: Mapping[str, Any]) -> DeviceMetrics:
    return DeviceMetrics.from_json(values)
