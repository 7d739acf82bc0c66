"""What the pages show, as plain values made from the store; each costs a few statements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig
from coordinator.presence import Presence
from coordinator.pulse import Pulse
from coordinator.status import doing_of, phase_of
from coordinator.store import Store
from coordinator.store.overview import RoundCounts
from coordinator.store.pages import Reported, Search
from coordinator.web.looks import (
    DeploymentView,
    DeviceList,
    DevicePage,
    DeviceView,
    Figures,
    Head,
    Overview,
    RoundPage,
    RoundView,
)

DEVICES_A_PAGE = 50
WORK_A_PAGE = 100
ROUNDS_SHOWN = 100  # in charts and lists
VERSIONS_SHOWN = 100
REFUSALS_SHOWN = 8
WORK_SHOWN = 50  # newest work of one device
WORKING_SHOWN = 12
DEPLOYMENTS_SHOWN = 20
HOT_C = 75
LOW_BATTERY = 20


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a page's figures come from.

    `trouble` says why the run does not go on, `barrier` what keeps a device from work now; ''
    where nothing does.
    """

    store: Store
    clock: Clock
    presence: Presence
    pulse: Pulse
    trouble: Callable[[], str] = str
    barrier: Callable[[r.Device], str] = lambda _: ""


class View:
    """Makes the pages of one coordinator; safe to use from many threads."""

    def __init__(self, sources: Sources, config: CoordinatorConfig) -> None:
        self._store = sources.store
        self._clock = sources.clock
        self._presence = sources.presence
        self._pulse = sources.pulse
        self._trouble = sources.trouble
        self._barrier = sources.barrier
        self._config = config
        self._closed: dict[int, Figures] = {}  # what a closed round reported never changes

    def overview(self) -> Overview:
        """The fleet and the run at a glance."""
        rounds = self.rounds()
        latest = rounds[-1] if rounds else None
        current = latest if latest and latest.state != r.CLOSED else None
        work = self._store.work_counts(current.number) if current else {}
        number = current.number if current else self._config.rounds.total + 1
        return Overview(
            head=self.head(),
            rounds=rounds,
            current=current,
            work=work,
            working=tuple(self._store.working(number, WORKING_SHOWN)),
            refusals=tuple(reversed(self._store.refusals_of("", REFUSALS_SHOWN))),
            deployment=self._deployment_under_way(),
        )

    def head(self) -> Head:
        """Counts and phase."""
        now, policy = self._clock.wall(), self._config.rounds
        counts = self._store.device_counts(now - policy.presence_s)
        version = self._store.latest_version()
        latest = self._store.last_rounds(1)
        reports = self._store.report_count(policy.total + 1)
        return Head(
            fleet=self._config.fleet,
            phase=phase_of(
                latest[-1] if latest else None,
                policy.total,
                version,
                everybody_done=0 < counts.ready <= reports,
            ),
            trouble=self._trouble(),
            paused=bool(self._store.fact(r.PAUSED)),
            version=version.number if version else None,
            rounds_total=policy.total,
            rounds_closed=self._store.rounds_closed(),
            min_devices=policy.min_devices,
            counts=counts,
            online=self._pulse.online(),
            at=now,
        )

    def devices(self, text: str, state: str, page: int) -> DeviceList:
        """A page of the devices that fit; a page beyond the last gives the last."""
        since = self._clock.wall() - self._config.rounds.presence_s
        asked = Search(text.strip().lower(), state, since)
        skip = (page - 1) * DEVICES_A_PAGE
        found, devices = self._store.search(asked, skip, DEVICES_A_PAGE)
        pages = max(1, math.ceil(found / DEVICES_A_PAGE))
        if page > pages:
            return self.devices(text, state, pages)
        return DeviceList(self.head(), asked, self._devices(devices), found, page, pages)

    def device(self, device_id: str) -> DevicePage | None:
        """One device; None where there is none of this name."""
        record = self._store.device(device_id)
        if record is None:
            return None
        return DevicePage(
            head=self.head(),
            device=self._devices([record])[0],
            barrier="" if record.revoked_at else self._barrier(record),
            record=record,
            work=tuple(self._store.history(device_id, WORK_SHOWN)),
            refusals=tuple(reversed(self._store.refusals_of(device_id, WORK_SHOWN))),
            report=self._store.report_of(device_id),
            told=self._pulse.told(device_id),
        )

    def rounds(self) -> tuple[RoundView, ...]:
        """The newest rounds, oldest first."""
        return self._rounds(self._store.last_rounds(ROUNDS_SHOWN))

    def round(self, number: int, after: str) -> RoundPage | None:
        """One round with the work after the lease `after`; None where there is no such round."""
        found = self._store.round(number)
        if found is None:
            return None
        work = self._store.work_page(number, "", after, WORK_A_PAGE + 1)
        more = work[WORK_A_PAGE - 1].lease if len(work) > WORK_A_PAGE else ""
        (shown,) = self._rounds([found])
        return RoundPage(self.head(), shown, tuple(work[:WORK_A_PAGE]), more)

    def versions(self) -> tuple[r.Version, ...]:
        """The newest versions, newest first."""
        return tuple(reversed(self._store.last_versions(VERSIONS_SHOWN)))

    def deployments(self) -> tuple[DeploymentView, ...]:
        """The newest deployments, newest first."""
        found = self._store.last_deployments(DEPLOYMENTS_SHOWN)
        return tuple(
            DeploymentView(one, self._store.deployment_counts(one.number))
            for one in reversed(found)
        )

    def _deployment_under_way(self) -> DeploymentView | None:
        latest = self._store.last_deployments(1)
        if not latest or latest[0].state not in {r.CANARY, r.ROLLING}:
            return None
        return DeploymentView(latest[0], self._store.deployment_counts(latest[0].number))

    def _rounds(self, found: Sequence[r.Round]) -> tuple[RoundView, ...]:
        if not found:
            return ()
        counts = self._store.round_counts(found[0].number, found[-1].number)
        return tuple(
            _round(one, counts.get(one.number, RoundCounts()), self._figures(one)) for one in found
        )

    def _figures(self, found: r.Round) -> Figures:
        if found.number in self._closed:
            return self._closed[found.number]
        figures = _figures(self._store.reported(found.number))
        if found.state == r.CLOSED:
            self._closed[found.number] = figures
        return figures

    def _devices(self, records: Sequence[r.Device]) -> tuple[DeviceView, ...]:
        if not records:
            return ()
        names = [record.device_id for record in records]
        doing = self._store.doing(names[0], names[-1], self._config.rounds.total + 1)
        there = self._store.bundles_there([record.bundle_key for record in records])
        since = self._clock.wall() - self._config.rounds.presence_s
        return tuple(
            _device(
                record,
                doing_of(
                    record,
                    doing.get(record.device_id, ""),
                    is_compiled=record.bundle_key in there,
                ),
                since,
                self._presence.last_call(record.device_id),
            )
            for record in records
        )


def _figures(reported: Reported) -> Figures:
    shares = reported.accuracies
    span = (min(shares), max(shares)) if shares else None
    return Figures(_mean(shares), span, _mean(reported.train_seconds))


def _round(found: r.Round, counts: RoundCounts, figures: Figures) -> RoundView:
    return RoundView(
        number=found.number,
        state=found.state,
        reason=found.reason,
        base_version=found.base_version,
        result_version=found.result_version,
        opened_at=found.opened_at,
        deadline_at=found.deadline_at,
        closed_at=found.closed_at,
        needed=found.needed,
        counts=counts,
        figures=figures,
    )


def _device(record: r.Device, doing: str, seen_since: float, last_call: float | None) -> DeviceView:
    plan, seen = record.plan, last_call or record.last_seen_at
    is_present = record.revoked_at is None and seen is not None and seen >= seen_since
    health, signs = _health(record, is_present=is_present)
    return DeviceView(
        device_id=record.device_id,
        board=str((record.profile or {}).get("board", "")),
        doing=doing,
        health=health,
        signs=signs,
        depth=plan.exit_depth if plan else None,
        bits=plan.bits if plan else None,
        codec=plan.codec if plan else "",
        models=plan.models if plan else None,
        failure=record.failure,
        enrolled_at=record.enrolled_at,
        last_seen_at=seen,
        is_present=is_present,
    )


def _health(record: r.Device, *, is_present: bool) -> tuple[str, tuple[str, ...]]:
    if record.revoked_at is not None:
        return "revoked", ("an operator revoked it",)
    if record.failure:
        return "failed", (record.failure,)
    if not is_present:
        return "away", ("it has not called lately",)
    conditions: dict[str, Any] = (record.profile or {}).get("conditions") or {}
    temperature, battery = conditions.get("temperature_c"), conditions.get("battery_percent")
    signs = []
    if conditions.get("throttled"):
        signs.append("its clock is throttled")
    if temperature is not None and temperature >= HOT_C:
        signs.append(f"{temperature} °C")
    if battery is not None and battery <= LOW_BATTERY and not conditions.get("on_mains"):
        signs.append(f"battery at {battery} %")
    return ("strained", tuple(signs)) if signs else ("well", ())


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
