"""What is still needed of the blobs, and what of the rows may go with those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select, union, update

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database, translated
from coordinator.store.deployments import versions_in_use


class RetentionState(Database):
    """The part of the store that says what may be forgotten."""

    def retire(self, keep_versions: int) -> None:
        """Give up older versions, their cuts, bundles without a device, and spent grants.

        The newest `keep_versions` stay, and all that open rounds and open work stand on. Rows of
        versions and updates stay as history; a retired version's model is gone.
        """
        # Devices and their work stay as they are: an idle device goes on asking no database.
        with self._write(of_devices=False, of_work=False) as connection:
            kept = _kept_versions(connection, keep_versions)
            old = t.versions.c.number.not_in(kept), t.versions.c.is_retired.is_(False)
            connection.execute(update(t.versions).where(*old).values(is_retired=True))
            connection.execute(delete(t.cuts).where(t.cuts.c.version.not_in(kept)))
            unused = select(t.bundles.c.key).where(
                t.bundles.c.key.not_in(select(t.devices.c.bundle_key)),
                t.bundles.c.manifest_sha256.not_in(
                    select(t.assignments.c.manifest_sha256).where(t.assignments.c.state == r.OPEN)
                ),
            )
            gone = list(connection.scalars(unused))
            connection.execute(delete(t.bundle_files).where(t.bundle_files.c.key.in_(gone)))
            connection.execute(delete(t.bundles).where(t.bundles.c.key.in_(gone)))
            spent = delete(t.grants).where(t.grants.c.sha256.not_in(_needed()))
            is_less_granted = connection.execute(spent).rowcount > 0
        if is_less_granted:
            self._remembered = {}

    def needed_blobs(self) -> set[str]:
        """Digests of all blobs that something in the store stands on."""
        return {row[0] for row in self._all(_needed())}

    def open_leases(self) -> set[str]:
        """Leases of all work that is not over."""
        c = t.assignments.c
        return {row.lease for row in self._all(select(c.lease).where(c.state == r.OPEN))}

    def copy_to(self, path: Path) -> None:
        """Write the state as of now to a new SQLite file, while others read and write on."""
        if self.address.is_postgresql:
            copy = Database(path)
            try:
                copy.load(self)
            finally:
                copy.close()
            return
        with translated():
            connection = self._engine.raw_connection()
            try:
                connection.cursor().execute("VACUUM INTO ?", (str(path),))
            finally:
                connection.close()


def _kept_versions(connection: Connection, keep: int) -> list[int]:
    newest = connection.scalar(select(func.max(t.versions.c.number)))
    in_rounds = select(t.rounds.c.base_version).where(t.rounds.c.state != r.CLOSED)
    in_work = select(t.assignments.c.base_version).where(t.assignments.c.state == r.OPEN)
    c = t.versions.c
    kept = select(c.number).where(
        or_(
            c.number > (newest or 0) - keep,
            c.number.in_(in_rounds),
            c.number.in_(in_work),
            c.number.in_(versions_in_use(connection)),
        ),
        c.is_retired.is_(False),
    )
    return list(connection.scalars(kept))


def _needed() -> Select[Any]:
    a, u, f, v = t.assignments.c, t.uploads.c, t.updates.c, t.versions.c
    is_open = a.state == r.OPEN
    unfolded = select(t.rounds.c.number).where(t.rounds.c.state != r.CLOSED)
    found = union(
        select(v.sha256).where(v.is_retired.is_(False)),
        select(t.cuts.c.sha256),
        select(t.bundles.c.manifest_sha256),
        select(t.bundle_files.c.sha256),
        select(a.manifest_sha256).where(is_open),
        select(a.weights_sha256).where(is_open),
        select(u.sha256).where(u.lease.in_(select(a.lease).where(is_open))),
        select(v.optimizer_sha256).where(v.is_retired.is_(False), v.optimizer_sha256 != ""),
        select(f.sha256).where(or_(f.folded_in.is_(None), f.folded_in.in_(unfolded))),
    ).subquery()
    return select(found.c[0])
