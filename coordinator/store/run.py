"""How the run goes: versions, rounds, pieces of work, updates, refusals and last reports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database, dump
from reefleet.errors import Rejected
from reefleet.plan import SubmodelPlan

MAX_REFUSALS_KEPT = 20  # of one device in one round


class RunState(Database):
    """The half of the store that a run writes."""

    # Versions

    def latest_version(self) -> r.Version | None:
        """The newest shared model."""
        row = self._one(select(t.versions).order_by(t.versions.c.number.desc()).limit(1))
        return _version(row) if row else None

    def version(self, number: int) -> r.Version | None:
        """A shared model by number."""
        row = self._one(select(t.versions).where(t.versions.c.number == number))
        return _version(row) if row else None

    def add_version(self, version: r.Version) -> None:
        """Publish a version outside a round: the first one."""
        with self._write() as connection:
            _insert_version(connection, version)

    def cut(self, version: int, depth: int) -> r.Cut | None:
        """The weights of a version for one depth, where they have been cut."""
        row = self._one(select(t.cuts).where(t.cuts.c.version == version, t.cuts.c.depth == depth))
        if not row:
            return None
        return r.Cut(row.version, row.depth, r.Artifact(row.sha256, row.size_bytes), row.norm)

    def add_cut(self, cut: r.Cut) -> None:
        """Keep a cut; keeping it again changes nothing."""
        with self._write() as connection:
            connection.execute(
                upsert(t.cuts)
                .values(
                    version=cut.version,
                    depth=cut.depth,
                    sha256=cut.artifact.sha256,
                    size_bytes=cut.artifact.size_bytes,
                    norm=cut.norm,
                )
                .on_conflict_do_nothing()
            )

    # Rounds and assignments

    def current_round(self) -> r.Round | None:
        """The round that is not closed yet; there is at most one."""
        row = self._one(select(t.rounds).where(t.rounds.c.state != r.CLOSED))
        return r.Round(**row._asdict()) if row else None

    def rounds(self) -> list[r.Round]:
        """All rounds in order."""
        return [r.Round(**row._asdict()) for row in self._all(select(t.rounds).order_by("number"))]

    def rounds_closed(self) -> int:
        """How many rounds are over."""
        query = select(func.count()).select_from(t.rounds).where(t.rounds.c.state == r.CLOSED)
        with self._read() as connection:
            return connection.scalar(query) or 0

    def add_round(self, opened: r.Round, assignments: Iterable[r.Assignment]) -> None:
        """Open a round with its assignments; what they name may be fetched from then on.

        Personal work that an earlier, shorter run left open ends here.
        """
        with self._write() as connection:
            connection.execute(
                update(t.assignments)
                .where(t.assignments.c.state == r.OPEN)
                .values(state=r.EXPIRED, reason="the run went on")
            )
            connection.execute(
                insert(t.rounds).values(
                    number=opened.number,
                    base_version=opened.base_version,
                    state=opened.state,
                    needed=opened.needed,
                    opened_at=opened.opened_at,
                    deadline_at=opened.deadline_at,
                )
            )
            for assignment in assignments:
                _insert_assignment(connection, assignment)

    def add_assignment(self, assignment: r.Assignment) -> None:
        """Hand out one piece of work outside a round."""
        with self._write() as connection:
            _insert_assignment(connection, assignment)

    def stop_round(self, number: int, reason: str) -> None:
        """Take no more updates into a round and end its open work."""
        with self._write() as connection:
            connection.execute(
                update(t.rounds)
                .where(t.rounds.c.number == number, t.rounds.c.state == r.OPEN)
                .values(state=r.CLOSING, reason=reason)
            )
            c = t.assignments.c
            connection.execute(
                update(t.assignments)
                .where(c.kind == r.FEDERATE, c.round == number, c.state == r.OPEN)
                .values(state=r.EXPIRED, reason=f"round {number} closed without it ({reason})")
            )

    def close_round(self, number: int, at: float, version: r.Version | None) -> None:
        """Close a stopped round and publish `version` (None: the model stays as it was)."""
        with self._write() as connection:
            result: Any = t.rounds.c.base_version
            if version:
                _insert_version(connection, version)
                result = version.number
            connection.execute(
                update(t.rounds)
                .where(t.rounds.c.number == number, t.rounds.c.state == r.CLOSING)
                .values(state=r.CLOSED, closed_at=at, result_version=result)
            )

    def assignment(self, lease: str) -> r.Assignment | None:
        """The piece of work of this lease."""
        row = self._one(select(t.assignments).where(t.assignments.c.lease == lease))
        return _assignment(row) if row else None

    def open_assignment(self, device_id: str) -> r.Assignment | None:
        """What the device has to do now."""
        query = select(t.assignments).where(
            t.assignments.c.device_id == device_id, t.assignments.c.state == r.OPEN
        )
        row = self._one(query)
        return _assignment(row) if row else None

    def assignment_of(self, kind: str, number: int, device_id: str) -> r.Assignment | None:
        """The work of one kind that the device had or has in one round."""
        c = t.assignments.c
        query = select(t.assignments).where(
            c.kind == kind, c.round == number, c.device_id == device_id
        )
        row = self._one(query)
        return _assignment(row) if row else None

    def assignments(self, kind: str, number: int) -> list[r.Assignment]:
        """All work of one kind in one round, by device."""
        query = (
            select(t.assignments)
            .where(t.assignments.c.kind == kind, t.assignments.c.round == number)
            .order_by("device_id")
        )
        return [_assignment(row) for row in self._all(query)]

    def may_fetch(self, device_id: str, sha256: str) -> bool:
        """Whether the device has been assigned this blob."""
        query = select(t.grants).where(
            t.grants.c.device_id == device_id, t.grants.c.sha256 == sha256
        )
        return self._one(query) is not None

    # Updates

    def set_upload(self, lease: str, artifact: r.Artifact) -> None:
        """Note what a device announced to upload, in place of what it announced before."""
        values = {"sha256": artifact.sha256, "size_bytes": artifact.size_bytes}
        with self._write() as connection:
            connection.execute(
                upsert(t.uploads)
                .values(lease=lease, **values)
                .on_conflict_do_update(index_elements=["lease"], set_=values)
            )

    def upload(self, lease: str) -> r.Artifact | None:
        """What was announced to be uploaded for this lease."""
        row = self._one(select(t.uploads).where(t.uploads.c.lease == lease))
        return r.Artifact(row.sha256, row.size_bytes) if row else None

    def accept(self, lease: str, accepted: r.Update) -> None:
        """Keep an update and end its work; raises Rejected where the work is no longer open."""
        with self._write() as connection:
            _end_work(connection, lease, r.COMMITTED, "")
            connection.execute(
                insert(t.updates).values(
                    round=accepted.round,
                    device_id=accepted.device_id,
                    sha256=accepted.artifact.sha256,
                    size_bytes=accepted.artifact.size_bytes,
                    samples=accepted.samples,
                    depth=accepted.depth,
                    metrics=dump(accepted.metrics),
                    accepted_at=accepted.accepted_at,
                )
            )

    def refuse(self, refusal: r.Refusal, lease: str | None) -> None:
        """Note a refusal, and end the work of `lease` where one is given."""
        with self._write() as connection:
            kept = connection.scalar(
                select(func.count())
                .select_from(t.refusals)
                .where(
                    t.refusals.c.round == refusal.round,
                    t.refusals.c.device_id == refusal.device_id,
                )
            )
            if (kept or 0) < MAX_REFUSALS_KEPT:
                connection.execute(insert(t.refusals).values(**asdict(refusal)))
            if lease:
                _end_work(connection, lease, r.REFUSED, refusal.reason)

    def update(self, number: int, device_id: str) -> r.Update | None:
        """The accepted update of one device in one round."""
        query = select(t.updates).where(
            t.updates.c.round == number, t.updates.c.device_id == device_id
        )
        row = self._one(query)
        return _update(row) if row else None

    def updates(self, number: int | None = None) -> list[r.Update]:
        """Accepted updates of a round (None: of all rounds), by round and device."""
        query = select(t.updates).order_by("round", "device_id")
        if number is not None:
            query = query.where(t.updates.c.round == number)
        return [_update(row) for row in self._all(query)]

    def refusals(self) -> list[r.Refusal]:
        """All refusals, oldest first."""
        c = t.refusals.c
        query = select(c.round, c.device_id, c.sha256, c.reason, c.at).order_by(c.id)
        return [r.Refusal(**row._asdict()) for row in self._all(query)]

    # Personal reports

    def add_report(self, lease: str, report: r.PersonalReport) -> None:
        """Keep a device's last figures and end its work; raises Rejected where it is not open."""
        with self._write() as connection:
            _end_work(connection, lease, r.COMMITTED, "")
            connection.execute(
                insert(t.personal_reports).values(
                    round=report.round,
                    device_id=report.device_id,
                    metrics=dump(report.metrics),
                    early_exit=dump(report.early_exit),
                    at=report.at,
                )
            )

    def reports(self) -> list[r.PersonalReport]:
        """All personal reports, by round and device."""
        rows = self._all(select(t.personal_reports).order_by("round", "device_id"))
        return [
            r.PersonalReport(
                row.round,
                row.device_id,
                json.loads(row.metrics),
                json.loads(row.early_exit),
                row.at,
            )
            for row in rows
        ]


def _insert_version(connection: Connection, version: r.Version) -> None:
    connection.execute(
        insert(t.versions).values(
            number=version.number,
            sha256=version.artifact.sha256,
            size_bytes=version.artifact.size_bytes,
            created_at=version.created_at,
        )
    )


def _insert_assignment(connection: Connection, assignment: r.Assignment) -> None:
    connection.execute(
        insert(t.assignments).values(
            lease=assignment.lease,
            kind=assignment.kind,
            round=assignment.round,
            device_id=assignment.device_id,
            plan=dump(assignment.plan.to_json()),
            base_version=assignment.base_version,
            manifest_sha256=assignment.manifest.sha256,
            manifest_bytes=assignment.manifest.size_bytes,
            signature=assignment.signature,
            weights_sha256=assignment.weights.sha256,
            weights_bytes=assignment.weights.size_bytes,
            opened_at=assignment.opened_at,
            state=assignment.state,
        )
    )
    # The device may fetch exactly what this work names: manifest, weights, the bundle's files.
    files = (
        select(t.bundle_files.c.sha256)
        .join(t.bundles, t.bundles.c.key == t.bundle_files.c.key)
        .where(t.bundles.c.manifest_sha256 == assignment.manifest.sha256)
    )
    granted = {assignment.manifest.sha256, assignment.weights.sha256}
    granted |= set(connection.scalars(files))
    connection.execute(
        upsert(t.grants).on_conflict_do_nothing(),
        [{"device_id": assignment.device_id, "sha256": sha256} for sha256 in sorted(granted)],
    )


def _end_work(connection: Connection, lease: str, state: str, reason: str) -> None:
    ended = connection.execute(
        update(t.assignments)
        .where(t.assignments.c.lease == lease, t.assignments.c.state == r.OPEN)
        .values(state=state, reason=reason)
    )
    if ended.rowcount != 1:
        msg = "this work is no longer open; ask for the next task"
        raise Rejected(msg)


def _version(row: Row[Any]) -> r.Version:
    return r.Version(
        row.number, r.Artifact(row.sha256, row.size_bytes), row.created_at, row.is_retired
    )


def _assignment(row: Row[Any]) -> r.Assignment:
    return r.Assignment(
        lease=row.lease,
        kind=row.kind,
        round=row.round,
        device_id=row.device_id,
        plan=SubmodelPlan.from_json(json.loads(row.plan)),
        base_version=row.base_version,
        manifest=r.Artifact(row.manifest_sha256, row.manifest_bytes),
        signature=row.signature,
        weights=r.Artifact(row.weights_sha256, row.weights_bytes),
        opened_at=row.opened_at,
        state=row.state,
        reason=row.reason,
    )


def _update(row: Row[Any]) -> r.Update:
    return r.Update(
        round=row.round,
        device_id=row.device_id,
        artifact=r.Artifact(row.sha256, row.size_bytes),
        samples=row.samples,
        depth=row.depth,
        metrics=json.loads(row.metrics),
        accepted_at=row.accepted_at,
    )
