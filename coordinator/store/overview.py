"""What operators ask of the store: counts and pages, each a few statements whatever the fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, and_, case, func, literal, select, tuple_

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database
from coordinator.store.fleet import device_of, plan_of
from coordinator.store.run import version_of
from reefleet.plan import SubmodelPlan


@dataclass(frozen=True, slots=True)
class Counts:
    """How many devices are what."""

    enrolled: int
    ready: int
    present: int
    failed: int
    revoked: int


@dataclass(frozen=True, slots=True)
class RoundCounts:
    """What a round has come to; `loss` is weighted by samples, None without an update."""

    cohort: int = 0
    refused: int = 0
    updates: int = 0
    update_bytes: int = 0
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class WorkDone:
    """One piece of work and the update it ended with, where it did."""

    lease: str
    kind: str
    round: int
    device_id: str
    state: str
    reason: str
    plan: SubmodelPlan
    opened_at: float
    accepted_at: float | None
    samples: int
    update_bytes: int
    metrics: Mapping[str, Any]


class OverviewState(Database):
    """Reads only."""

    def device_counts(self, seen_since: float) -> Counts:
        """How many devices are ready, failed, revoked, and have called since `seen_since`."""
        c = t.devices.c
        live = c.revoked_at.is_(None)
        ready = and_(live, c.plan.is_not(None), c.failure == "", t.bundles.c.key.is_not(None))
        columns = [
            func.count(),
            func.coalesce(func.sum(_one_if(ready)), 0),
            func.coalesce(func.sum(_one_if(and_(live, c.last_seen_at >= seen_since))), 0),
            func.coalesce(func.sum(_one_if(and_(live, c.failure != ""))), 0),
            func.coalesce(func.sum(_one_if(c.revoked_at.is_not(None))), 0),
        ]
        joined = t.devices.outerjoin(t.bundles, t.bundles.c.key == c.bundle_key)
        row = self._one(select(*columns).select_from(joined))
        return Counts(*map(int, row or (0, 0, 0, 0, 0)))

    def device_page(self, after: str, limit: int) -> list[r.Device]:
        """Up to `limit` devices whose name sorts after `after`."""
        c = t.devices.c.device_id
        query = select(t.devices).where(c > after).order_by(c).limit(limit)
        return [device_of(row) for row in self._all(query)]

    def doing(self, first: str, last: str, personal_round: int) -> dict[str, str]:
        """Kind of the open work, or "done", of the devices between two names, both included."""
        c = t.assignments.c
        between = c.device_id.between(first, last)
        work = self._all(select(c.device_id, c.kind).where(between, c.state == r.OPEN))
        reports = t.personal_reports.c
        done = self._all(
            select(reports.device_id).where(
                reports.device_id.between(first, last), reports.round == personal_round
            )
        )
        return {**{row.device_id: row.kind for row in work}, **{row[0]: "done" for row in done}}

    def bundles_there(self, keys: Sequence[str]) -> set[str]:
        """Which of these bundles are compiled."""
        query = select(t.bundles.c.key).where(t.bundles.c.key.in_(set(keys)))
        return {row[0] for row in self._all(query)}

    def last_rounds(self, limit: int) -> list[r.Round]:
        """The newest rounds, oldest first."""
        query = select(t.rounds).order_by(t.rounds.c.number.desc()).limit(limit)
        return [r.Round(**row._asdict()) for row in reversed(self._all(query))]

    def round(self, number: int) -> r.Round | None:
        """A round by number."""
        row = self._one(select(t.rounds).where(t.rounds.c.number == number))
        return r.Round(**row._asdict()) if row else None

    def round_counts(self, first: int, last: int) -> dict[int, RoundCounts]:
        """What the rounds between two numbers, both included, have come to."""
        a, u = t.assignments.c, t.updates.c
        work = self._all(
            select(a.round, func.count(), func.coalesce(func.sum(_one_if(a.state == r.REFUSED)), 0))
            .where(a.kind == r.FEDERATE, a.round.between(first, last))
            .group_by(a.round)
        )
        weight = func.sum(u.samples).filter(u.loss.is_not(None))
        # What waits will be folded by the round that is open.
        newest = select(func.max(t.rounds.c.number)).scalar_subquery()
        folds = func.coalesce(u.folded_in, newest)
        figures: list[Any] = [func.count(), func.sum(u.size_bytes)]
        figures.append(func.sum(u.samples * u.loss) / weight)
        updates = self._all(
            select(folds, *figures).where(folds.between(first, last)).group_by(folds)
        )
        given = {number: (cohort, refused) for number, cohort, refused in map(tuple, work)}
        got = {
            number: (count, int(size), loss) for number, count, size, loss in map(tuple, updates)
        }
        return {
            number: RoundCounts(*given.get(number, (0, 0)), *got.get(number, (0, 0, None)))
            for number in given.keys() | got.keys()
        }

    def last_versions(self, limit: int) -> list[r.Version]:
        """The newest versions, oldest first."""
        query = select(t.versions).order_by(t.versions.c.number.desc()).limit(limit)
        return [version_of(row) for row in reversed(self._all(query))]

    def work_page(self, number: int, device_id: str, after: str, limit: int) -> list[WorkDone]:
        """Work by kind, round and device; 0 and '' mean any, `after` is a lease."""
        a = t.assignments.c
        query = all_work()
        if number:
            # Named, so that the index over (kind, round, device) serves.
            query = query.where(a.kind.in_([r.FEDERATE, r.PERSONALIZE]), a.round == number)
        if device_id:
            query = query.where(a.device_id == device_id)
        if after:
            before = self._one(
                select(a.kind, a.round, a.device_id, a.lease).where(a.lease == after)
            )
            if before:
                query = query.where(
                    tuple_(a.kind, a.round, a.device_id, a.lease) > tuple_(*map(literal, before))
                )
        query = query.order_by(a.kind, a.round, a.device_id, a.lease).limit(limit)
        return [work_of(row) for row in self._all(query)]

    def refusals_of(self, device_id: str, limit: int) -> list[r.Refusal]:
        """The newest refusals of a device ('': of all), oldest first."""
        c = t.refusals.c
        query = select(c.round, c.device_id, c.sha256, c.reason, c.at).order_by(c.id.desc())
        if device_id:
            query = query.where(c.device_id == device_id)
        rows = self._all(query.limit(limit))
        return [r.Refusal(**row._asdict()) for row in reversed(rows)]

    def report_count(self, number: int) -> int:
        """How many devices have sent their personal report after the last round."""
        c = t.personal_reports.c
        row = self._one(select(func.count()).where(c.round == number))
        return int(row[0]) if row else 0

    def report_of(self, device_id: str) -> r.PersonalReport | None:
        """The newest personal report of a device."""
        c = t.personal_reports.c
        query = select(t.personal_reports).where(c.device_id == device_id)
        row = self._one(query.order_by(c.round.desc()).limit(1))
        if not row:
            return None
        early_exit = json.loads(row.early_exit)
        return r.PersonalReport(
            row.round, row.device_id, json.loads(row.metrics), early_exit, row.at
        )


def _one_if(condition: Any) -> Any:
    return case((condition, 1), else_=0)


def all_work() -> Select[Any]:
    """Each piece of work with the update it ended with, for `work_of`."""
    a, u = t.assignments.c, t.updates.c
    joined = t.assignments.outerjoin(t.updates, u.lease == a.lease)
    columns = (u.accepted_at, u.samples, u.size_bytes, u.metrics)
    return select(t.assignments, *columns).select_from(joined)


def work_of(row: Row[Any]) -> WorkDone:
    """A row of `all_work` as a value."""
    return WorkDone(
        lease=row.lease,
        kind=row.kind,
        round=row.round,
        device_id=row.device_id,
        state=row.state,
        reason=row.reason,
        plan=plan_of(row.plan),
        opened_at=row.opened_at,
        accepted_at=row.accepted_at,
        samples=row.samples or 0,
        update_bytes=row.size_bytes or 0,
        metrics=json.loads(row.metrics or "{}"),
    )
