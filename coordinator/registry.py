"""Who may speak: one-time tokens, device certificates, and the check of each caller.

A device's name comes from its token, never from what it says of itself. A new certificate for a
name replaces the old one, which is refused from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass

from coordinator.clock import Clock
from coordinator.records import Device, Token
from coordinator.store import Store
from reefleet.errors import InputError, NotEnrolled, Rejected
from reefleet.rpc.identity import (
    SERVER_NAME,
    CertificateFacts,
    certificate_facts,
    issue_device,
)

logger = logging.getLogger(__name__)

TOKEN_BYTES = 32
_DEVICE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that has just been let in, and its certificate (DER)."""

    device_id: str
    certificate: bytes


def new_token(store: Store, device_id: str, ttl_s: float, clock: Clock) -> str:
    """A token that lets one device in as `device_id` once, within `ttl_s`; only its digest is kept.

    Raises InputError for a name that no device may have.
    """
    if not _DEVICE_ID.fullmatch(device_id) or device_id == SERVER_NAME:
        msg = (
            f"{device_id!r} cannot be a device's name; use 1 to 63 lower-case letters, digits "
            "and hyphens, not starting with a hyphen"
        )
        raise InputError(msg)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    store.add_token(Token(_digest(token.encode()), device_id, clock.wall() + ttl_s))
    return token


class Registry:
    """The gate: enrollment on one side, the check of every fleet call on the other."""

    def __init__(self, store: Store, ca_cert: bytes, ca_key: bytes, clock: Clock) -> None:
        self._store = store
        self._ca_cert = ca_cert
        self._ca_key = ca_key
        self._clock = clock

    def enroll(self, token: str, request_der: bytes) -> Enrolled:
        """Trade a token for a certificate; raises Rejected, and then nothing has changed."""
        known = self._known(token)
        request_sha256 = _digest(request_der)
        if known.used_at is not None:
            if hmac.compare_digest(known.request_sha256, request_sha256):
                # The answer got lost and the device asks again: only it holds the key.
                return Enrolled(known.device_id, known.certificate)
            msg = "the enrollment token has been used already; ask for a new one"
            raise Rejected(msg)
        if self._clock.wall() >= known.expires_at:
            msg = "the enrollment token has expired; ask for a new one"
            raise Rejected(msg)
        certificate = issue_device(self._ca_cert, self._ca_key, request_der, known.device_id)
        facts = certificate_facts(certificate)
        device = Device(known.device_id, facts.serial, facts.fingerprint, self._clock.wall())
        used = Token(
            known.sha256,
            known.device_id,
            known.expires_at,
            request_sha256=request_sha256,
            certificate=certificate,
        )
        self._store.enroll(device, used)
        logger.info("Device enrolled", extra={"device": known.device_id, "serial": facts.serial})
        return Enrolled(known.device_id, certificate)

    def identify(self, certificate_pem: bytes) -> Device:
        """The device behind a certificate that TLS has already found to be of this fleet.

        Raises NotEnrolled for a device that is unknown or has a newer certificate.
        """
        facts = _facts(certificate_pem)
        device = self._store.device(facts.common_name)
        if device is None:
            msg = f"device {facts.common_name[:63]!r} is not enrolled here; enroll it again"
            raise NotEnrolled(msg)
        if not hmac.compare_digest(device.fingerprint, facts.fingerprint):
            msg = f"the certificate of {device.device_id} was replaced by a newer enrollment"
            raise NotEnrolled(msg)
        return device

    def _known(self, token: str) -> Token:
        digest = _digest(token.encode())
        known = self._store.token(digest)
        # Looked up by digest, so time tells nothing of a token; compared as if it did.
        if known is None or not hmac.compare_digest(known.sha256, digest):
            logger.warning("Enrollment refused: unknown token")
            msg = "the enrollment token is not known here; check it, or ask for a new one"
            raise Rejected(msg)
        return known


def _facts(certificate_pem: bytes) -> CertificateFacts:
    try:
        return certificate_facts(certificate_pem)
    except InputError as error:
        msg = "this call came without a device certificate"
        raise NotEnrolled(msg) from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
