"""Who may speak: tokens, certificates of devices and operators, and the check of each caller.

A device's name comes from its token, never from what it says of itself. A new certificate for a
name replaces the old one: at once after an enrollment, with the first call after a renewal, for
the answer to a renewal may get lost.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from coordinator.clock import Clock
from coordinator.records import Device, Enrollment, Token
from coordinator.store import Store
from reefleet.errors import InputError, NotEnrolled, Rejected
from reefleet.rpc.identity import (
    DEVICE_DAYS,
    DEVICE_ROLE,
    OPERATOR_ROLE,
    SERVER_NAME,
    CertificateFacts,
    certificate_facts,
    issue_device,
)

logger = logging.getLogger(__name__)

TOKEN_BYTES = 32
MARK = "rf_"  # so that none starts with a hyphen, and scanners know a leaked one
MAX_USES = 10_000
LONGEST_TTL_S = 365 * 86400.0
FACTS = 16_384  # certificates whose facts are kept, some 2 KiB each; more than most fleets have
_DEVICE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ROLES = {DEVICE_ROLE: "a device", OPERATOR_ROLE: "an operator"}


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that has just been let in, and its certificate (DER)."""

    device_id: str
    certificate: bytes


def new_token(store: Store, device_id: str, ttl_s: float, clock: Clock, uses: int = 1) -> str:
    """A token good for `uses` enrollments within `ttl_s`; only its digest is kept.

    With one use it lets a device in as `device_id`; with more, new ones as "device_id-1" and so on.
    Raises InputError for a name that no device may have and for bounds out of range.
    """
    longest = device_id if uses == 1 else f"{device_id}-{MAX_USES}"
    if not _DEVICE_ID.fullmatch(longest) or device_id == SERVER_NAME:
        msg = (
            f"{device_id!r} cannot be a device's name; use 1 to 63 lower-case letters, digits "
            "and hyphens, not starting with a hyphen"
        )
        raise InputError(msg)
    require_uses(uses)
    if not 0 < ttl_s <= LONGEST_TTL_S:
        msg = f"a token cannot be good for {ttl_s:.0f} s; give more than 0 and at most a year"
        raise InputError(msg)
    token = MARK + secrets.token_urlsafe(TOKEN_BYTES)
    store.add_token(Token(_digest(token.encode()), device_id, clock.wall() + ttl_s, uses))
    return token


def require_uses(uses: int) -> None:
    """Raise InputError where no token may have so many uses."""
    if not 1 <= uses <= MAX_USES:
        msg = f"a token cannot have {uses} uses; give 1 to {MAX_USES}"
        raise InputError(msg)


class Registry:
    """The gate: enrollment on one side, the check of every call on the other."""

    def __init__(
        self,
        store: Store,
        ca_cert: bytes,
        ca_key: bytes,
        clock: Clock,
        valid_days: float = DEVICE_DAYS,
    ) -> None:
        self._store = store
        self._ca_cert = ca_cert
        self._ca_key = ca_key
        self._clock = clock
        self._valid_days = valid_days
        self.members_changed: Callable[[], None] = lambda: None

    def enroll(self, token: str, request_der: bytes) -> Enrolled:
        """Trade a token for a certificate; raises Rejected, and then nothing has changed."""
        known = self._known(token)
        request_sha256 = _digest(request_der)
        earlier = self._store.enrollments(known.sha256)
        for enrollment in earlier:
            if hmac.compare_digest(enrollment.request_sha256, request_sha256):
                return self._again(enrollment)
        if len(earlier) >= known.uses:
            msg = "the enrollment token has been used already; ask for a new one"
            raise Rejected(msg)
        if self._clock.wall() >= known.expires_at:
            msg = "the enrollment token has expired; ask for a new one"
            raise Rejected(msg)
        name = known.device_id if known.uses == 1 else self._store.free_name(known.device_id)
        certificate, facts = self._issue(request_der, name)
        now = self._clock.wall()
        device = Device(
            name, facts.serial, facts.fingerprint, now, certificate_ends_at=facts.ends_at
        )
        enrollment = Enrollment(known.sha256, request_sha256, name, certificate, now)
        self._store.enroll(device, enrollment)
        self.members_changed()
        logger.info("Device enrolled", extra={"device": name, "serial": facts.serial})
        return Enrolled(name, certificate)

    def renew(self, device: Device, request_der: bytes) -> bytes:
        """A new certificate (DER) for a device that has shown its present one.

        The present one stays good until the new one is first used. The same request again gets
        the same answer. Raises Rejected, NotEnrolled.
        """
        certificate, facts = self._issue(request_der, device.device_id)
        now = self._clock.wall()
        renewed = Enrollment("", _digest(request_der), device.device_id, certificate, now)
        kept = self._store.set_next(renewed, facts.serial, facts.fingerprint, facts.ends_at)
        logger.info("Certificate renewed", extra={"serial": certificate_facts(kept).serial})
        return kept

    def revoke(self, device_id: str) -> None:
        """Refuse every later call of a device; raises InputError where there is none."""
        if not self._store.revoke(device_id, self._clock.wall()):
            msg = f"there is no device {device_id[:63]!r}; see: reefleet coordinator devices"
            raise InputError(msg)
        self.members_changed()
        logger.warning("Device revoked", extra={"device": device_id})

    def identify(self, certificate_pem: bytes) -> Device:
        """The device behind a certificate that TLS has already found to be of this fleet.

        Raises NotEnrolled for a device that is unknown, revoked, or has a newer certificate.
        """
        facts = self._current(certificate_pem, DEVICE_ROLE)
        device = self._store.device(facts.common_name)
        if device is None:
            msg = f"device {facts.common_name[:63]!r} is not enrolled here; enroll it again"
            raise NotEnrolled(msg)
        if device.revoked_at is not None:
            msg = f"device {device.device_id} was revoked by an operator"
            raise NotEnrolled(msg)
        if hmac.compare_digest(device.next_fingerprint, facts.fingerprint):
            self._store.take_next(device.device_id, facts.fingerprint)
        elif not hmac.compare_digest(device.fingerprint, facts.fingerprint):
            msg = f"the certificate of {device.device_id} was replaced by a newer one"
            raise NotEnrolled(msg)
        return device

    def operator(self, certificate_pem: bytes) -> str:
        """Name of the operator behind a certificate; raises NotEnrolled for anybody else."""
        return self._current(certificate_pem, OPERATOR_ROLE).common_name

    def _current(self, certificate_pem: bytes, role: str) -> CertificateFacts:
        facts = _facts(certificate_pem)
        if facts.role != role:
            msg = f"this call needs the certificate of {_ROLES[role]}"
            raise NotEnrolled(msg)
        # TLS looks at the dates only when a connection is made, and connections last.
        if self._clock.wall() >= facts.ends_at:
            msg = f"the certificate of {facts.common_name[:63]!r} has expired"
            raise NotEnrolled(msg)
        return facts

    def _issue(self, request_der: bytes, name: str) -> tuple[bytes, CertificateFacts]:
        certificate = issue_device(self._ca_cert, self._ca_key, request_der, name, self._valid_days)
        return certificate, certificate_facts(certificate)

    def _again(self, enrollment: Enrollment) -> Enrolled:
        """The answer got lost and the device asks again: only it holds the key."""
        device = self._store.device(enrollment.device_id)
        issued = certificate_facts(enrollment.certificate)
        if device is None or device.revoked_at or device.fingerprint != issued.fingerprint:
            msg = "the certificate that this token was traded for is over; ask for a new token"
            raise Rejected(msg)
        return Enrolled(enrollment.device_id, enrollment.certificate)

    def _known(self, token: str) -> Token:
        digest = _digest(token.encode())
        known = self._store.token(digest)
        # Looked up by digest, so time tells nothing of a token; compared as if it did.
        if known is None or not hmac.compare_digest(known.sha256, digest):
            logger.warning("Enrollment refused: unknown token")
            msg = "the enrollment token is not known here; check it, or ask for a new one"
            raise Rejected(msg)
        return known


@lru_cache(maxsize=FACTS)
def _facts(certificate_pem: bytes) -> CertificateFacts:
    try:
        return certificate_facts(certificate_pem)
    except InputError as error:
        msg = "this call came without a certificate"
        raise NotEnrolled(msg) from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
