"""A read-only look at a run, for people and for the demo's live view; made from the store alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coordinator import records as r
from coordinator.config import CoordinatorConfig
from coordinator.store import Store

PRETRAINING = "pretraining"
WAITING = "waiting for devices"
ROUNDS = "rounds"
PERSONALIZING = "personalizing"
FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class RoundStatus:
    """One round; loss and accuracy are weighted means over its updates, None without any.

    `shared_accuracy` is of the deepest exit of each device, measured before the round's training.
    """

    number: int
    state: str
    reason: str
    base_version: int
    result_version: int | None
    opened_at: float
    closed_at: float | None
    seconds_left: float | None
    cohort: int
    needed: int
    updates: int
    refused: int
    update_bytes: int
    loss: float | None
    shared_accuracy: float | None


@dataclass(frozen=True, slots=True)
class WorkStatus:
    """One device's accepted update in one round."""

    round: int
    samples: int
    update_bytes: int
    accepted_at: float
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device. `doing`: enrolled, compiling, failed, idle, federate, personalize or done."""

    device_id: str
    doing: str
    failure: str
    profile: Mapping[str, Any] | None
    plan: Mapping[str, Any] | None
    last_seen_at: float | None
    refused: int
    work: tuple[WorkStatus, ...]
    personal: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The whole run. `time_left_s` guesses from the rounds so far; None before the first closed."""

    fleet: str
    phase: str
    version: int | None
    rounds_total: int
    rounds_closed: int
    min_devices: int
    ready_devices: int
    time_left_s: float | None
    rounds: tuple[RoundStatus, ...]
    devices: tuple[DeviceStatus, ...]
    refusals: tuple[r.Refusal, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def snapshot(store: Store, config: CoordinatorConfig, now: float) -> FleetStatus:
    """The run as the store has it at wall time `now`."""
    updates, refusals = store.updates(), store.refusals()
    rounds = tuple(
        _round(found, store.assignments(r.FEDERATE, found.number), updates, now)
        for found in store.rounds()
    )
    last = config.rounds.total + 1
    reports = {report.device_id: report for report in store.reports() if report.round == last}
    ready = {device.device_id for device in store.ready()}
    devices = tuple(
        _device(store, device, device.device_id in ready, reports, updates, refusals)
        for device in store.devices()
    )
    version = store.latest_version()
    return FleetStatus(
        fleet=config.fleet,
        phase=phase_of(
            rounds[-1] if rounds else None,
            config.rounds.total,
            version,
            everybody_done=bool(ready) and ready <= set(reports),
        ),
        version=version.number if version else None,
        rounds_total=config.rounds.total,
        rounds_closed=sum(found.state == r.CLOSED for found in rounds),
        min_devices=config.rounds.min_devices,
        ready_devices=len(ready),
        time_left_s=_time_left(rounds, config.rounds.total, now),
        rounds=rounds,
        devices=devices,
        refusals=tuple(refusals),
    )


def _round(
    found: r.Round, work: Sequence[r.Assignment], updates: Sequence[r.Update], now: float
) -> RoundStatus:
    is_open = found.state == r.OPEN
    folds = {found.number, None} if is_open else {found.number}  # what waits will be in it
    mine = [update for update in updates if update.folded_in in folds]
    return RoundStatus(
        number=found.number,
        state=found.state,
        reason=found.reason,
        base_version=found.base_version,
        result_version=found.result_version,
        opened_at=found.opened_at,
        closed_at=found.closed_at,
        seconds_left=max(0.0, found.deadline_at - now) if is_open else None,
        cohort=len(work),
        needed=found.needed,
        updates=len(mine),
        refused=sum(assignment.state == r.REFUSED for assignment in work),
        update_bytes=sum(update.artifact.size_bytes for update in mine),
        loss=_mean([(u.samples, u.metrics.get("loss")) for u in mine]),
        shared_accuracy=_mean(
            [(1, (u.metrics.get("shared_accuracy") or [None])[-1]) for u in mine]
        ),
    )


def _device(
    store: Store,
    device: r.Device,
    is_ready: bool,  # noqa: FBT001
    reports: Mapping[str, r.PersonalReport],
    updates: Sequence[r.Update],
    refusals: Sequence[r.Refusal],
) -> DeviceStatus:
    name = device.device_id
    report = reports.get(name)
    work = store.open_assignment(name)
    if report:
        doing = "done"
    elif device.failure:
        doing = "failed"
    elif work:
        doing = work.kind
    elif is_ready:
        doing = "idle"
    else:
        doing = "compiling" if device.plan else "enrolled"
    return DeviceStatus(
        device_id=name,
        doing=doing,
        failure=device.failure,
        profile=device.profile,
        plan=device.plan.to_json() if device.plan else None,
        last_seen_at=device.last_seen_at,
        refused=sum(refusal.device_id == name for refusal in refusals),
        work=tuple(
            WorkStatus(u.round, u.samples, u.artifact.size_bytes, u.accepted_at, u.metrics)
            for u in updates
            if u.device_id == name
        ),
        personal={"metrics": report.metrics, "early_exit": report.early_exit} if report else None,
    )


def doing_of(device: r.Device, kind: str, *, is_compiled: bool) -> str:
    """What a device does; `kind` is that of its open work, "done", or '' where it has none."""
    if device.revoked_at is not None:
        return "revoked"
    if device.failure and kind != "done":
        return "failed"
    waiting = "idle" if is_compiled else "compiling" if device.plan else "enrolled"
    return kind or waiting


def phase_of(
    latest: RoundStatus | r.Round | None,
    total: int,
    version: r.Version | None,
    *,
    everybody_done: bool,
) -> str:
    """Where a run stands; `latest` is its newest round."""
    if version is None:
        return PRETRAINING
    if latest and latest.state != r.CLOSED:
        return ROUNDS
    if (latest.number if latest else 0) < total:
        return WAITING
    return FINISHED if everybody_done else PERSONALIZING


def _time_left(rounds: Sequence[RoundStatus], total: int, now: float) -> float | None:
    spans = [f.closed_at - f.opened_at for f in rounds if f.closed_at is not None]
    if not spans:
        return None
    left = (total - len(spans)) * sum(spans) / len(spans)
    if rounds[-1].closed_at is None:
        left -= now - rounds[-1].opened_at
    return max(0.0, left)


def _mean(weighted: Sequence[tuple[int, float | None]]) -> float | None:
    known = [(weight, value) for weight, value in weighted if value is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if total else None
