"""What the built-in page asks of the store beside the operator's questions: search and history."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database
from coordinator.store.fleet import device_of
from coordinator.store.overview import WorkDone, all_work, work_of

ALL, PRESENT, AWAY, FAILED, REVOKED = "all", "present", "away", "failed", "revoked"
STATES = (ALL, PRESENT, AWAY, FAILED, REVOKED)


@dataclass(frozen=True, slots=True)
class Search:
    """Devices whose name holds `text` or whose board begins with it, in one of STATES."""

    text: str = ""
    state: str = ALL
    seen_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Reported:
    """What devices reported with the updates of one round."""

    accuracies: tuple[float, ...] = ()  # at each device's deepest exit, before its training
    train_seconds: tuple[float, ...] = ()


class PageState(Database):
    """Reads only."""

    def search(self, asked: Search, skip: int, limit: int) -> tuple[int, list[r.Device]]:
        """How many devices fit, and up to `limit` of them by name after the first `skip`."""
        fits = _fits(asked)
        row = self._one(select(func.count()).select_from(t.devices).where(fits))
        query = select(t.devices).where(fits).order_by(t.devices.c.device_id)
        found = [device_of(row) for row in self._all(query.offset(skip).limit(limit))]
        return int(row[0]) if row else 0, found

    def reported(self, number: int) -> Reported:
        """Figures of a round's updates; text is read here, so that any database serves."""
        query = select(t.updates.c.metrics).where(t.updates.c.folded_in == number)
        metrics = [json.loads(row.metrics) for row in self._all(query)]
        return Reported(
            tuple(_numbers((v.get("shared_accuracy") or [None])[-1] for v in metrics)),
            tuple(_numbers(values.get("train_seconds") for values in metrics)),
        )

    def work_counts(self, number: int) -> dict[str, int]:
        """How many devices of a round are in each state."""
        c = t.assignments.c
        query = select(c.state, func.count()).where(c.kind == r.FEDERATE, c.round == number)
        rows = self._all(query.group_by(c.state))
        return {state: int(count) for state, count in map(tuple, rows)}

    def working(self, number: int, limit: int) -> list[str]:
        """Up to `limit` devices with open work of a round, by name."""
        c = t.assignments.c
        kinds = c.kind.in_([r.FEDERATE, r.PERSONALIZE])  # named, so that the index serves
        query = select(c.device_id).where(kinds, c.round == number, c.state == r.OPEN)
        return [row[0] for row in self._all(query.order_by(c.device_id).limit(limit))]

    def history(self, device_id: str, limit: int) -> list[WorkDone]:
        """The newest work of a device, newest first."""
        c = t.assignments.c
        query = all_work().where(c.device_id == device_id)
        rows = self._all(query.order_by(c.opened_at.desc(), c.lease).limit(limit))
        return [work_of(row) for row in rows]


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float)]


def _fits(asked: Search) -> ColumnElement[bool]:
    c = t.devices.c
    live = c.revoked_at.is_(None)
    seen = c.last_seen_at >= asked.seen_since
    unseen = or_(c.last_seen_at.is_(None), c.last_seen_at < asked.seen_since)
    by_state: dict[str, list[ColumnElement[bool]]] = {
        PRESENT: [live, seen],
        AWAY: [live, unseen],
        FAILED: [live, c.failure != ""],
        REVOKED: [c.revoked_at.is_not(None)],
    }
    conditions = by_state.get(asked.state, [])
    if asked.text:
        board = f'"board": {json.dumps(asked.text)[:-1]}'  # as the profile's JSON begins it
        conditions.append(
            or_(
                c.device_id.contains(asked.text, autoescape=True),
                c.profile.contains(board, autoescape=True),
            )
        )
    return and_(True, *conditions)  # noqa: FBT003  # SQLAlchemy's neutral element
