"""What is asked at every look of the scheduler: who still needs work, and what is awaited.

In a quiet fleet nothing has changed since the last look, so the answer is remembered.
"""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, exists, func, select

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database
from coordinator.store.fleet import device_of

_ROUND: BindParameter[int] = bindparam("number")
_STANDING = select(
    select(func.count())
    .select_from(t.updates)
    .where(t.updates.c.round == _ROUND)
    .scalar_subquery()
    .label("updates"),
    exists()
    .where(
        t.assignments.c.kind == r.FEDERATE,
        t.assignments.c.round == _ROUND,
        t.assignments.c.state == r.OPEN,
    )
    .label("is_open"),
)


class DemandState(Database):
    """Reads only."""

    def ready_without(self, kind: str, number: int) -> list[r.Device]:
        """Devices that could be given work of a kind in a round and never were, by name."""
        remembered = self._remembered  # a write to devices puts another in its place
        key = f"{kind}/{number}"
        if key in remembered:
            return []
        d, a = t.devices.c, t.assignments.c
        has_some = exists().where(a.kind == kind, a.round == number, a.device_id == d.device_id)
        query = (
            select(t.devices)
            .join(t.bundles, t.bundles.c.key == d.bundle_key)
            .where(d.plan.is_not(None), d.revoked_at.is_(None), ~has_some)
            .order_by(d.device_id)
        )
        found = [device_of(row) for row in self._all(query)]
        if not found:  # work that was handed out stays handed out
            remembered[key] = True
        return found

    def has_open_work(self, kind: str, number: int) -> bool:
        """Whether somebody is at work of a kind in a round."""
        c = t.assignments.c
        query = select(c.lease).where(c.kind == kind, c.round == number, c.state == r.OPEN)
        return self._one(query.limit(1)) is not None

    def standing(self, number: int) -> tuple[int, bool]:
        """How many pieces of work of a round ended with an update; whether others are open."""
        row = self._one(_STANDING, number=number)
        return (int(row.updates), bool(row.is_open)) if row else (0, False)

    def open_work(self) -> list[tuple[str, str]]:
        """Lease and device of all open work."""
        c = t.assignments.c
        rows = self._all(select(c.lease, c.device_id).where(c.state == r.OPEN))
        return [(row.lease, row.device_id) for row in rows]

    def earlier_work(self, work: r.Assignment) -> int:
        """How many pieces of the same kind the device was given before it in the same round."""
        c = t.assignments.c
        query = (
            select(func.count())
            .select_from(t.assignments)
            .where(c.kind == work.kind, c.round == work.round, c.device_id == work.device_id)
            .where(c.opened_at < work.opened_at)
        )
        with self._read() as connection:
            return connection.scalar(query) or 0
