"""Deployments: which version is on its way to which devices, and what each did with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, case, func, insert, select, update

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database, dump
from coordinator.store.run import end_work, insert_assignments

UNDER_WAY = (r.CANARY, r.ROLLING)


class DeploymentState(Database):
    """The part of the store that a deployment writes."""

    def begin_deployment(self, begun: r.Deployment, work: Iterable[r.Assignment]) -> None:
        """Start a deployment with its first work; one that is under way ends."""
        d, a = t.deployments.c, t.assignments.c
        with self._write() as connection:
            connection.execute(
                update(t.deployments)
                .where(d.state.in_(UNDER_WAY))
                .values(
                    state=r.ENDED, ended_at=begun.started_at, reason=f"deployment {begun.number}"
                )
            )
            connection.execute(
                update(t.assignments)
                .where(a.kind == r.DEPLOY, a.state == r.OPEN)
                .values(state=r.EXPIRED, reason=f"deployment {begun.number} came after it")
            )
            connection.execute(insert(t.deployments).values(**asdict(begun)))
            insert_assignments(connection, work)

    def move_deployment(self, number: int, state: str, at: float | None, reason: str) -> None:
        """Set the state of a deployment; its open work ends where it is halted."""
        a = t.assignments.c
        with self._write() as connection:
            connection.execute(
                update(t.deployments)
                .where(t.deployments.c.number == number)
                .values(state=state, ended_at=at, reason=reason)
            )
            if state == r.HALTED:
                connection.execute(
                    update(t.assignments)
                    .where(a.kind == r.DEPLOY, a.round == number, a.state == r.OPEN)
                    .values(state=r.EXPIRED, reason=reason)
                )

    def last_deployments(self, limit: int) -> list[r.Deployment]:
        """The newest deployments, oldest first."""

        def find() -> list[r.Deployment]:
            query = select(t.deployments).order_by(t.deployments.c.number.desc()).limit(limit)
            return [_deployment(row) for row in reversed(self._all(query))]

        return list(self._shared(find, "last deployments", limit))

    def add_deployment_report(self, lease: str, report: r.DeploymentReport) -> None:
        """Keep what a device did and end its work; raises Rejected where it is not open."""
        values = {**asdict(report), "early_exit": dump(report.early_exit)}
        with self._write() as connection:
            end_work(connection, lease, r.COMMITTED, "")
            connection.execute(insert(t.deployment_reports).values(**values))

    def touched_by(self, number: int) -> list[str]:
        """Devices that answer from what this deployment brought, or may come to, unheard yet."""
        a, c = t.assignments.c, t.deployment_reports.c
        kept = select(c.device_id).where(c.deployment == number, c.outcome == r.KEPT)
        query = select(a.device_id).where(
            a.kind == r.DEPLOY, a.round == number, a.device_id.not_in(kept)
        )
        return [row.device_id for row in self._all(query.order_by(a.device_id))]

    def deployment_counts(self, number: int) -> r.DeploymentCounts:
        """How far a deployment is."""
        a, c = t.assignments.c, t.deployment_reports.c
        given = select(func.count()).where(a.kind == r.DEPLOY, a.round == number)
        columns = [
            *(
                func.coalesce(func.sum(case((c.outcome == outcome, 1), else_=0)), 0)
                for outcome in (r.INSTALLED, r.RESTORED, r.KEPT)
            ),
            func.avg(c.accuracy),
            func.avg(c.accuracy_before),
        ]
        with self._read() as connection:
            devices = connection.scalar(given) or 0
            found = connection.execute(select(*columns).where(c.deployment == number)).one()
        return r.DeploymentCounts(devices, *(int(count) for count in found[:3]), *found[3:])

    def personal_version(self) -> int | None:
        """The newest version that devices fitted a personal sub-model from, by their reports."""
        a = t.assignments.c
        query = select(func.max(a.base_version)).where(
            a.kind == r.PERSONALIZE, a.state == r.COMMITTED
        )
        with self._read() as connection:
            found: int | None = connection.scalar(query)
        return found


def versions_in_use(connection: Connection) -> set[int]:
    """Versions that devices answer from or may have to go back to."""
    newest = select(t.deployments).order_by(t.deployments.c.number.desc()).limit(1)
    row = connection.execute(newest).first()
    numbers = (row.version, row.previous) if row else ()
    return {number for number in numbers if number is not None}


def _deployment(row: Row[Any]) -> r.Deployment:
    return r.Deployment(**row._asdict())
