"""What the coordinator answers its operator, as lines for people and as plain values."""

from __future__ import annotations

import math
import time
from collections.abc import MutableMapping, MutableSequence, Sequence
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from reefleet.cli.duration import ago
from reefleet.cli.table import table
from reefleet.v1 import operator_pb2 as pb

_KIB = 1024


def plain(message: Message) -> dict[str, Any]:
    """The message as JSON values under its own field names; what is unset or not finite is null."""
    values: dict[str, Any] = {}
    for name, field, may_be_unset in _fields(message.DESCRIPTOR):
        value = getattr(message, name)
        if isinstance(value, MutableMapping):
            values[name] = dict(value)
        elif isinstance(value, MutableSequence):
            values[name] = [_plain(field, item) for item in value]
        elif may_be_unset and not message.HasField(name):
            values[name] = None
        else:
            values[name] = _plain(field, value)
    return values


@lru_cache(maxsize=64)
def _fields(described: Descriptor) -> tuple[tuple[str, FieldDescriptor, bool], ...]:
    # Asked for once a kind of message: lists of ten thousand are printed.
    return tuple((field.name, field, field.has_presence) for field in described.fields)


def status(found: pb.GetStatusResponse) -> list[str]:
    """The run at a glance."""
    counts = found.devices
    closed = f"{found.rounds_closed} of {found.rounds_total} rounds closed"
    version = f", version {found.version}" if found.HasField("version") else ""
    paused = ", PAUSED" if found.paused else ""
    states = (
        f"{counts.enrolled} enrolled, {counts.ready} ready, {counts.present} present, "
        f"{counts.failed} failed, {counts.revoked} revoked"
        + (f", {counts.online} online" if counts.HasField("online") else "")
    )
    lines = [
        f"fleet {found.fleet}: {found.phase}{paused}, {closed}{version}",
        f"devices: {states}; a round needs {found.min_devices}",
    ]
    if found.trouble:
        lines.append(f"TROUBLE: {found.trouble}")
    if found.rounds:
        lines += ["", *rounds(found.rounds)]
    if found.HasField("deployment"):
        lines += ["", *deployments([found.deployment])]
    lines += [
        f"refused: {refusal.device_id}, round {refusal.round}: {refusal.reason}"
        for refusal in found.refusals
    ]
    return lines


def devices(found: Sequence[pb.DeviceSummary], now: float) -> list[str]:
    """One line a device; `now` is wall time."""
    rows = [("device", "board", "doing", "depth", "bits", "codec", "last seen", "why not")]
    rows += [
        (
            device.device_id,
            device.board or "-",
            device.doing,
            *_plan(device),
            f"{ago(now - device.last_seen_at)} ago" if device.HasField("last_seen_at") else "-",
            device.failure,
        )
        for device in found
    ]
    return table(rows)


def device(found: pb.GetDeviceResponse, done: Sequence[pb.Work], now: float) -> list[str]:
    """Everything about one device."""
    summary = found.device
    lines = devices([summary], now)
    lines += [f"  {reason}" for reason in found.why]
    if summary.HasField("certificate_ends_at"):
        left = summary.certificate_ends_at - now
        until = f"ends in {ago(left)}" if left > 0 else "has expired"
        lines.append(f"certificate {found.serial} {until}")
    if found.HasField("profile"):
        lines += [f"{name}: {value}" for name, value in plain(found.profile).items() if value]
    if found.HasField("early_exit"):
        early = found.early_exit
        lines.append(
            f"personal: {_share(early.accuracy)} with early exit at depth "
            f"{early.mean_exit_depth:.2f}, {_share(early.full_depth_accuracy)} at full depth"
        )
    if done:
        lines += ["", *work(done)]
    if found.HasField("vitals"):
        lines.append(_vitals(found.vitals, now))
    lines += [f"refused in round {refusal.round}: {refusal.reason}" for refusal in found.refusals]
    return lines


def rounds(found: Sequence[pb.RoundSummary]) -> list[str]:
    """One line a round."""
    rows = [("round", "state", "updates", "refused", "KiB", "loss", "seconds", "version")]
    for one in found:
        is_over = one.HasField("closed_at")
        rows.append(
            (
                str(one.number),
                f"{one.state} ({one.reason})" if one.reason else one.state,
                f"{one.updates} of {one.cohort}, {one.needed} needed",
                str(one.refused),
                f"{one.update_bytes / _KIB:.0f}",
                _figure(one.loss, 3) if one.HasField("loss") else "-",
                f"{one.closed_at - one.opened_at:.1f}" if is_over else "-",
                str(one.result_version) if one.HasField("result_version") else "-",
            )
        )
    return table(rows)


def work(found: Sequence[pb.Work]) -> list[str]:
    """One line a piece of work."""
    rows = [("round", "device", "state", "depth", "bits", "samples", "KiB", "loss", "accuracy")]
    for one in found:
        accuracy = one.metrics.shared_accuracy[-1:] if one.HasField("metrics") else []
        rows.append(
            (
                str(one.round),
                one.device_id,
                f"{one.state}: {one.reason}" if one.reason else one.state,
                str(one.exit_depth),
                str(one.bits),
                str(one.samples) if one.samples else "-",
                f"{one.update_bytes / _KIB:.0f}" if one.update_bytes else "-",
                _figure(one.metrics.loss, 3) if one.HasField("metrics") else "-",
                _share(accuracy[0]) if accuracy else "-",
            )
        )
    return table(rows)


def versions(found: Sequence[pb.VersionSummary]) -> list[str]:
    """One line a version."""
    rows = [("version", "made at (UTC)", "KiB", "sha256")]
    rows += [
        (
            str(one.number),
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one.created_at)),
            f"{one.size_bytes / _KIB:.0f}",
            "retired" if one.is_retired else one.sha256,
        )
        for one in found
    ]
    return table(rows)


def plans(found: Sequence[pb.DeviceSummary]) -> list[str]:
    """One line a device that has a plan, and what the fleet comes to."""
    head = ("device", "board", "depth", "bits", "batch", "epochs", "steps", "models", "trained")
    rows = [(*head, "codec")]
    planned = [device for device in found if device.HasField("plan")]
    for device in planned:
        plan = device.plan
        rows.append(
            (
                device.device_id,
                device.board or "-",
                str(plan.exit_depth),
                ",".join(map(str, plan.layer_bits)) or str(plan.bits),
                str(plan.batch_size),
                str(plan.local_epochs),
                str(plan.local_steps or "-"),
                str(plan.models),
                plan.trained or "full",
                plan.codec,
            )
        )
    without = [device for device in found if not device.HasField("plan")]
    lines = table(rows)
    lines += [f"no plan: {one.device_id} {one.failure}".rstrip() for one in without]
    return [*lines, "`reefleet coordinator device ID` says why a device has its plan"]


def deployments(found: Sequence[pb.Deployment]) -> list[str]:
    """One line a deployment."""
    head = ("deployment", "version", "before", "state", "devices", "took it", "kept theirs")
    rows = [(*head, "accuracy", "before it")]
    for one in found:
        state = f"{one.state}, rollback" if one.is_rollback else one.state
        rows.append(
            (
                str(one.number),
                str(one.version),
                str(one.previous) if one.HasField("previous") else "-",
                f"{state} ({one.reason})" if one.reason else state,
                str(one.devices),
                str(one.installed + one.restored),
                str(one.kept),
                _share(one.accuracy) if one.HasField("accuracy") else "-",
                _share(one.accuracy_before) if one.HasField("accuracy_before") else "-",
            )
        )
    return table(rows)


def _vitals(told: pb.Vitals, now: float) -> str:
    values = {
        "temperature": f"{told.temperature_c} C" if told.HasField("temperature_c") else "",
        "throttled": "yes" if told.throttled else "",
        "free memory": f"{told.memory_available_mib} MiB" if told.memory_available_mib else "",
        "client": f"{told.resident_mib} MiB" if told.resident_mib else "",
        "answers": f"{told.answer_ms:.2f} ms" if told.HasField("answer_ms") else "",
    }
    said = ", ".join(f"{name} {value}" for name, value in values.items() if value)
    at = f", {ago(now - told.told_at)} ago: {told.doing}" if told.told_at else ""
    return f"broker: {'online' if told.online else 'offline'}{at}" + (f", {said}" if said else "")


def _plan(device: pb.DeviceSummary) -> tuple[str, str, str]:
    if not device.HasField("plan"):
        return "-", "-", "-"
    return str(device.plan.exit_depth), str(device.plan.bits), device.plan.codec


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "-"


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _plain(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if field.enum_type is not None:
        name = field.enum_type.values_by_number.get(value)
        return name.name if name else value
    return value
