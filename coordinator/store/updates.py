"""What devices sent: uploads under way, accepted updates, refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, select

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database, dump, upsert
from coordinator.store.run import assignment_from, end_work

MAX_REFUSALS_KEPT = 20  # of one device in one round


_ALL_OF = (
    select(
        t.assignments,
        t.updates.c.sha256.label("kept_sha256"),
        t.uploads.c.sha256.label("told_sha256"),
        t.uploads.c.size_bytes.label("told_bytes"),
    )
    .outerjoin(t.updates, t.updates.c.lease == t.assignments.c.lease)
    .outerjoin(t.uploads, t.uploads.c.lease == t.assignments.c.lease)
    .where(t.assignments.c.lease == bindparam("lease"))
)


class UpdateState(Database):
    """The part of the store that an upload writes."""

    def set_upload(self, lease: str, artifact: r.Artifact) -> None:
        """Note what a device announced to upload, in place of what it announced before."""
        values = {"sha256": artifact.sha256, "size_bytes": artifact.size_bytes}
        with self._write(of_devices=False, of_work=False, of_run=False) as connection:
            connection.execute(
                upsert(connection, t.uploads)
                .values(lease=lease, **values)
                .on_conflict_do_update(index_elements=["lease"], set_=values)
            )

    def upload_of(self, lease: str) -> r.Upload:
        """All that is known of the upload of a piece of work."""
        row = self._one(_ALL_OF, lease=lease)
        if row is None:
            return r.Upload(None, "", None)
        announced = r.Artifact(row.told_sha256, row.told_bytes) if row.told_sha256 else None
        return r.Upload(assignment_from(row), row.kept_sha256 or "", announced)

    def accept(self, lease: str, accepted: r.Update, *, is_late: bool = False) -> None:
        """Keep an update and end its work; raises Rejected where the work is no longer open.

        Work that a closed round has ended counts as open for a late update.
        """
        with self._write(of_devices=False, of_work=False, of_run=False) as connection:
            end_work(connection, lease, r.COMMITTED, "", or_expired=is_late)
            connection.execute(
                insert(t.updates).values(
                    lease=lease,
                    round=accepted.round,
                    device_id=accepted.device_id,
                    base_version=accepted.base_version,
                    rms=accepted.rms,
                    folded_in=accepted.folded_in,
                    sha256=accepted.artifact.sha256,
                    size_bytes=accepted.artifact.size_bytes,
                    samples=accepted.samples,
                    depth=accepted.depth,
                    metrics=dump(accepted.metrics),
                    loss=accepted.metrics.get("loss"),
                    accepted_at=accepted.accepted_at,
                )
            )

    def refuse(self, refusal: r.Refusal, lease: str | None) -> None:
        """Note a refusal, and end the work of `lease` where one is given."""
        with self._write(of_devices=False, of_work=False, of_run=False) as connection:
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
                end_work(connection, lease, r.REFUSED, refusal.reason)

    def train_seconds(self, number: int) -> dict[str, float]:
        """How long devices train for a round, by lease, where they said so.

        Of one whose time ran out before its work was done: how long all of it would have taken.
        """
        c = t.updates.c
        rows = self._all(select(c.lease, c.metrics).where(c.round == number))
        told = {row.lease: _whole_seconds(json.loads(row.metrics)) for row in rows}
        return {lease: seconds for lease, seconds in told.items() if seconds}

    def updates(self, number: int | None = None) -> list[r.Update]:
        """Accepted updates that a round folds (None: all there are), by round and device.

        Several of one device follow each other by what they moved and what they hold, so that the
        order depends on nothing that another run would have otherwise.
        """
        query = select(t.updates).order_by("round", "device_id", "base_version", "sha256")
        if number is not None:
            query = query.where(t.updates.c.folded_in == number)
        return [_update(row) for row in self._all(query)]

    def waiting_updates(self) -> int:
        """How many accepted updates no round has folded yet."""
        c = t.updates.c
        with self._read() as connection:
            query = select(func.count()).select_from(t.updates).where(c.folded_in.is_(None))
            return connection.scalar(query) or 0

    def recent_rms(self, number: int, most: int) -> list[float]:
        """Root mean squares of the latest updates up to those of round `number`, oldest first."""
        c = t.updates.c
        query = (
            select(c.rms)
            .where(c.folded_in <= number)
            .order_by(c.folded_in.desc(), c.device_id.desc(), c.base_version.desc(), c.sha256)
            .limit(most)
        )
        return [float(row.rms) for row in reversed(self._all(query))]

    def refusals(self) -> list[r.Refusal]:
        """All refusals, oldest first."""
        c = t.refusals.c
        query = select(c.round, c.device_id, c.sha256, c.reason, c.at).order_by(c.id)
        return [r.Refusal(**row._asdict()) for row in self._all(query)]


def _update(row: Row[Any]) -> r.Update:
    return r.Update(
        round=row.round,
        device_id=row.device_id,
        artifact=r.Artifact(row.sha256, row.size_bytes),
        samples=row.samples,
        depth=row.depth,
        metrics=json.loads(row.metrics),
        accepted_at=row.accepted_at,
        lease=row.lease,
        base_version=row.base_version,
        rms=row.rms,
        folded_in=row.folded_in,
    )


def _whole_seconds(metrics: Mapping[str, Any]) -> float:
    seconds = float(metrics.get("train_seconds") or 0.0)
    steps, asked = metrics.get("steps") or 0, metrics.get("steps_asked") or 0
    return seconds * asked / steps if 0 < steps < asked else seconds
