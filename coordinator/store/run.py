"""How the run goes: versions, rounds, pieces of work, updates, refusals and last reports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import REMEMBERED, Database, dump, upsert
from coordinator.store.fleet import plan_of
from reefleet.errors import Rejected

# Made once: making a query takes as long as running one of these.
_A, _G = t.assignments.c, t.grants.c
_BY_LEASE = select(t.assignments).where(_A.lease == bindparam("lease"))
_OPEN_OF = (
    select(t.assignments)
    .where(_A.device_id == bindparam("device_id"), _A.state == r.OPEN)
    .order_by(_A.opened_at, _A.kind, _A.lease)
    .limit(1)
)
_GRANT = select(t.grants).where(
    _G.device_id == bindparam("device_id"), _G.sha256 == bindparam("sha256")
)


class RunState(Database):
    """The half of the store that a run writes."""

    # Versions

    def latest_version(self) -> r.Version | None:
        """The newest shared model."""

        def find() -> r.Version | None:
            row = self._one(select(t.versions).order_by(t.versions.c.number.desc()).limit(1))
            return version_of(row) if row else None

        return self._shared(find, "latest version")

    def version(self, number: int) -> r.Version | None:
        """A shared model by number."""
        row = self._one(select(t.versions).where(t.versions.c.number == number))
        return version_of(row) if row else None

    def add_version(self, version: r.Version) -> None:
        """Publish a version outside a round: the first one."""
        with self._write(of_devices=False, of_work=False) as connection:
            _insert_version(connection, version)

    def cut(self, version: int, depth: int) -> r.Cut | None:
        """The weights of a version for one depth, where they have been cut."""

        def find() -> r.Cut | None:
            c = t.cuts.c
            row = self._one(select(t.cuts).where(c.version == version, c.depth == depth))
            if not row:
                return None
            return r.Cut(row.version, row.depth, r.Artifact(row.sha256, row.size_bytes), row.norm)

        return self._shared(find, "cut", version, depth)

    def add_cut(self, cut: r.Cut) -> None:
        """Keep a cut; keeping it again changes nothing."""
        with self._write(of_devices=False, of_work=False) as connection:
            connection.execute(
                upsert(connection, t.cuts)
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

        def find() -> r.Round | None:
            row = self._one(select(t.rounds).where(t.rounds.c.state != r.CLOSED))
            return r.Round(**row._asdict()) if row else None

        return self._shared(find, "current round")

    def rounds(self) -> list[r.Round]:
        """All rounds in order."""
        return [r.Round(**row._asdict()) for row in self._all(select(t.rounds).order_by("number"))]

    def rounds_closed(self) -> int:
        """How many rounds are over."""

        def find() -> int:
            query = select(func.count()).select_from(t.rounds).where(t.rounds.c.state == r.CLOSED)
            with self._read() as connection:
                return connection.scalar(query) or 0

        return self._shared(find, "rounds closed")

    def add_round(
        self, opened: r.Round, assignments: Iterable[r.Assignment], *, keeps_work: bool = False
    ) -> None:
        """Open a round with its assignments; what they name may be fetched from then on.

        Personal work that an earlier, shorter run left open ends here, and federated work too
        unless it is kept.
        """
        ending = [r.PERSONALIZE] if keeps_work else [r.PERSONALIZE, r.FEDERATE]
        with self._write(of_devices=False) as connection:
            connection.execute(
                update(t.assignments)
                .where(t.assignments.c.state == r.OPEN, t.assignments.c.kind.in_(ending))
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
            insert_assignments(connection, assignments)

    def add_assignment(self, assignment: r.Assignment) -> None:
        """Hand out one piece of work outside a round."""
        self.add_assignments([assignment])

    def add_assignments(self, assignments: Iterable[r.Assignment]) -> None:
        """Hand out several, all of them or none."""
        with self._write(of_devices=False, of_run=False) as connection:
            insert_assignments(connection, assignments)

    def stop_round(
        self, number: int, reason: str, *, most: int | None = None, ends_work: bool = True
    ) -> None:
        """Take no more updates into a round, end its open work, and fold in it what waited.

        At most `most` of the waiting updates, oldest first; those of the round itself are in it.
        """
        with self._write(of_devices=False, of_work=False) as connection:
            stopped = connection.execute(
                update(t.rounds)
                .where(t.rounds.c.number == number, t.rounds.c.state == r.OPEN)
                .values(state=r.CLOSING, reason=reason)
                .returning(t.rounds.c.number)
            ).all()
            if not stopped:
                return
            if ends_work:
                c = t.assignments.c
                connection.execute(
                    update(t.assignments)
                    .where(c.kind == r.FEDERATE, c.round == number, c.state == r.OPEN)
                    .values(state=r.EXPIRED, reason=f"round {number} closed without it ({reason})")
                )
            u = t.updates.c
            waiting = select(u.lease).where(u.folded_in.is_(None))
            waiting = waiting.order_by(u.accepted_at, u.device_id, u.lease).limit(most)
            taken = list(connection.scalars(waiting))
            connection.execute(update(t.updates).where(u.lease.in_(taken)).values(folded_in=number))

    def end_federated_work(self, reason: str, *, base_below: int | None = None) -> list[str]:
        """End open federated work, or only that from versions below one; the leases."""
        c = t.assignments.c
        ending = update(t.assignments).where(c.kind == r.FEDERATE, c.state == r.OPEN)
        if base_below is not None:
            ending = ending.where(c.base_version < base_below)
        with self._write(of_devices=False, of_work=False, of_run=False) as connection:
            ended = ending.values(state=r.EXPIRED, reason=reason).returning(c.lease)
            return list(connection.scalars(ended))

    def close_round(self, number: int, at: float, version: r.Version | None) -> None:
        """Close a stopped round and publish `version` (None: the model stays as it was)."""
        with self._write(of_devices=False, of_work=False) as connection:
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
        row = self._one(_BY_LEASE, lease=lease)
        return assignment_from(row) if row else None

    def open_assignment(self, device_id: str) -> r.Assignment | None:
        """What the device has to do now: the oldest of its open work."""
        remembered = self._remembered_work
        if device_id in remembered:  # it had none, and nobody has been given any since
            return None
        row = self._one(_OPEN_OF, device_id=device_id)
        if row is None:
            remembered[device_id] = True
            return None
        return assignment_from(row)

    def assignment_of(self, kind: str, number: int, device_id: str) -> r.Assignment | None:
        """The work of one kind that the device had or has in one round."""
        c = t.assignments.c
        query = select(t.assignments).where(
            c.kind == kind, c.round == number, c.device_id == device_id
        )
        row = self._one(query)
        return assignment_from(row) if row else None

    def assignments(self, kind: str, number: int) -> list[r.Assignment]:
        """All work of one kind in one round, by device."""
        query = (
            select(t.assignments)
            .where(t.assignments.c.kind == kind, t.assignments.c.round == number)
            .order_by("device_id")
        )
        return [assignment_from(row) for row in self._all(query)]

    def may_fetch(self, device_id: str, sha256: str) -> bool:
        """Whether the device has been assigned this blob."""
        remembered, key = self._remembered, f"{device_id}/{sha256}"
        if key in remembered:
            return True
        found = self._one(_GRANT, device_id=device_id, sha256=sha256) is not None
        if found and len(remembered) < REMEMBERED // 2:  # the rest is for the devices themselves
            remembered[key] = True
        return found

    # Personal reports

    def add_report(self, lease: str, report: r.PersonalReport) -> None:
        """Keep a device's last figures and end its work; raises Rejected where it is not open."""
        with self._write(of_devices=False, of_work=False, of_run=False) as connection:
            end_work(connection, lease, r.COMMITTED, "")
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
            optimizer_sha256=version.optimizer.sha256 if version.optimizer else "",
            optimizer_bytes=version.optimizer.size_bytes if version.optimizer else 0,
        )
    )


def insert_assignments(connection: Connection, assignments: Iterable[r.Assignment]) -> None:
    """Hand out work; its devices may fetch what it names from then on."""
    given = list(assignments)
    if not given:
        return
    connection.execute(insert(t.assignments), [_values(assignment) for assignment in given])
    # Exactly this: manifest, weights, the bundle's files.
    files = (
        select(t.bundles.c.manifest_sha256, t.bundle_files.c.sha256)
        .join(t.bundles, t.bundles.c.key == t.bundle_files.c.key)
        .where(t.bundles.c.manifest_sha256.in_({one.manifest.sha256 for one in given}))
    )
    of_manifest: dict[str, set[str]] = {}
    for row in connection.execute(files):
        of_manifest.setdefault(row.manifest_sha256, set()).add(row.sha256)
    granted = {
        (one.device_id, sha256)
        for one in given
        for sha256 in (
            one.manifest.sha256,
            one.weights.sha256,
            *of_manifest.get(one.manifest.sha256, ()),
        )
    }
    connection.execute(
        upsert(connection, t.grants).on_conflict_do_nothing(),
        [{"device_id": device_id, "sha256": sha256} for device_id, sha256 in sorted(granted)],
    )


def _values(assignment: r.Assignment) -> dict[str, Any]:
    return {
        "lease": assignment.lease,
        "kind": assignment.kind,
        "round": assignment.round,
        "device_id": assignment.device_id,
        "plan": dump(assignment.plan.to_json()),
        "base_version": assignment.base_version,
        "manifest_sha256": assignment.manifest.sha256,
        "manifest_bytes": assignment.manifest.size_bytes,
        "signature": assignment.signature,
        "weights_sha256": assignment.weights.sha256,
        "weights_bytes": assignment.weights.size_bytes,
        "opened_at": assignment.opened_at,
        "state": assignment.state,
    }


def end_work(
    connection: Connection, lease: str, state: str, reason: str, *, or_expired: bool = False
) -> None:
    """End open work, or such that has expired too; raises Rejected where it is neither."""
    states = [r.OPEN, r.EXPIRED] if or_expired else [r.OPEN]
    ended = connection.execute(
        update(t.assignments)
        .where(t.assignments.c.lease == lease, t.assignments.c.state.in_(states))
        .values(state=state, reason=reason)
    )
    if ended.rowcount != 1:
        msg = "this work is no longer open; ask for the next task"
        raise Rejected(msg)


def version_of(row: Row[Any]) -> r.Version:
    """A row of `versions` as a record."""
    memory = r.Artifact(row.optimizer_sha256, row.optimizer_bytes)
    return r.Version(
        row.number,
        r.Artifact(row.sha256, row.size_bytes),
        row.created_at,
        row.is_retired,
        memory if row.optimizer_sha256 else None,
    )


def assignment_from(row: Row[Any]) -> r.Assignment:
    """A row of `assignments` as a record."""
    return r.Assignment(
        lease=row.lease,
        kind=row.kind,
        round=row.round,
        device_id=row.device_id,
        plan=plan_of(row.plan),
        base_version=row.base_version,
        manifest=r.Artifact(row.manifest_sha256, row.manifest_bytes),
        signature=row.signature,
        weights=r.Artifact(row.weights_sha256, row.weights_bytes),
        opened_at=row.opened_at,
        state=row.state,
        reason=row.reason,
    )
