"""Who is let in: tokens, what they were traded for, certificates, revocations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database, upsert
from reefleet.errors import NotEnrolled, Rejected

_NO_NEXT: dict[str, Any] = {
    "next_serial": "",
    "next_fingerprint": "",
    "next_ends_at": None,
    "next_request_sha256": "",
    "next_certificate": None,
}


class AdmissionState(Database):
    """The part of the store that the gate reads and writes."""

    def add_token(self, token: r.Token) -> None:
        """Keep a new token's digest."""
        with self._write() as connection:
            connection.execute(
                insert(t.tokens).values(
                    sha256=token.sha256,
                    device_id=token.device_id,
                    expires_at=token.expires_at,
                    uses=token.uses,
                )
            )

    def token(self, sha256: str) -> r.Token | None:
        """The token of this digest."""
        row = self._one(select(t.tokens).where(t.tokens.c.sha256 == sha256))
        return r.Token(**row._asdict()) if row else None

    def enrollments(self, token: str) -> list[r.Enrollment]:
        """What the token of this digest was traded for."""
        rows = self._all(select(t.enrollments).where(t.enrollments.c.token == token))
        return [r.Enrollment(**row._asdict()) for row in rows]

    def free_name(self, beginning: str) -> str:
        """The first of "beginning-1", "beginning-2"... that no device has."""
        c = t.devices.c.device_id
        taken = {row[0] for row in self._all(select(c).where(c.startswith(f"{beginning}-")))}
        number = 1
        while f"{beginning}-{number}" in taken:
            number += 1
        return f"{beginning}-{number}"

    def enroll(self, device: r.Device, enrollment: r.Enrollment) -> None:
        """Use `enrollment.token` once and let `device` in.

        A token of one use puts the device in place of an earlier certificate of its name; one of
        several never does. Raises Rejected where the token or the name was taken in the meantime.
        """
        with self._write() as connection:
            token = connection.execute(
                select(t.tokens).where(t.tokens.c.sha256 == enrollment.token)
            ).one()
            used = connection.scalar(
                select(func.count())
                .select_from(t.enrollments)
                .where(t.enrollments.c.token == enrollment.token)
            )
            if (used or 0) >= token.uses:
                msg = "the enrollment token has been used already; ask for a new one"
                raise Rejected(msg)
            _put_device(connection, device, replaces=token.uses == 1)
            connection.execute(
                insert(t.enrollments).values(
                    token=enrollment.token,
                    request_sha256=enrollment.request_sha256,
                    device_id=enrollment.device_id,
                    certificate=enrollment.certificate,
                    at=enrollment.at,
                )
            )

    def set_next(self, renewed: r.Enrollment, serial: str, fingerprint: str, ends: float) -> bytes:
        """Keep a renewed certificate beside the one in use; the one kept (DER).

        That is an earlier one where it answered the same request: the answer got lost.
        """
        c = t.devices.c
        with self._write() as connection:
            connection.execute(
                update(t.devices)
                .where(
                    c.device_id == renewed.device_id,
                    c.revoked_at.is_(None),
                    c.next_request_sha256 != renewed.request_sha256,
                )
                .values(
                    next_serial=serial,
                    next_fingerprint=fingerprint,
                    next_ends_at=ends,
                    next_request_sha256=renewed.request_sha256,
                    next_certificate=renewed.certificate,
                )
            )
            kept = connection.scalar(
                select(c.next_certificate).where(c.device_id == renewed.device_id)
            )
        if not kept:
            msg = f"device {renewed.device_id} was revoked by an operator"
            raise NotEnrolled(msg)
        return bytes(kept)

    def take_next(self, device_id: str, fingerprint: str) -> None:
        """The device has called with its renewed certificate: the one before is over."""
        c = t.devices.c
        with self._write() as connection:
            connection.execute(
                update(t.devices)
                .where(c.device_id == device_id, c.next_fingerprint == fingerprint)
                .values(
                    serial=c.next_serial,
                    fingerprint=c.next_fingerprint,
                    certificate_ends_at=c.next_ends_at,
                    **_NO_NEXT,
                )
            )

    def revoke(self, device_id: str, at: float) -> bool:
        """End a device's certificates, its open work and tokens for its name; False if unknown."""
        with self._write() as connection:
            c = t.devices.c
            found: Any = connection.execute(
                update(t.devices)
                .where(c.device_id == device_id)
                .values(
                    revoked_at=func.coalesce(c.revoked_at, at),
                    **_NO_NEXT,
                )
            )
            connection.execute(
                update(t.assignments)
                .where(t.assignments.c.device_id == device_id, t.assignments.c.state == r.OPEN)
                .values(state=r.EXPIRED, reason="the device was revoked")
            )
            connection.execute(
                update(t.tokens)
                .where(
                    t.tokens.c.device_id == device_id,
                    t.tokens.c.uses == 1,
                    t.tokens.c.expires_at > at,
                )
                .values(expires_at=at)
            )
        return bool(found.rowcount)


def _put_device(connection: Connection, device: r.Device, *, replaces: bool) -> None:
    values: dict[str, Any] = {
        "serial": device.serial,
        "fingerprint": device.fingerprint,
        "enrolled_at": device.enrolled_at,
        "certificate_ends_at": device.certificate_ends_at,
    }
    fresh = {**_NO_NEXT, "revoked_at": None}
    statement = upsert(connection, t.devices).values(device_id=device.device_id, **values)
    if replaces:
        statement = statement.on_conflict_do_update(
            index_elements=["device_id"], set_={**values, **fresh}
        )
    else:
        statement = statement.on_conflict_do_nothing()
    if connection.scalar(statement.returning(t.devices.c.device_id)) is None:
        msg = f"the name {device.device_id} was taken in the meantime; try again"
        raise Rejected(msg)
