"""Becoming a device of a fleet: a key made here, a certificate for it, kept in one folder."""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_client import folder
from reefleet.blobs import write_atomic
from reefleet.errors import (
    CoordinatorUnavailable,
    DamagedFile,
    InputError,
    MissingFile,
    NotEnrolled,
    TlsFailure,
    WireError,
)
from reefleet.invitation import Invitation
from reefleet.retry import Retry
from reefleet.rpc import identity
from reefleet.rpc.identity import Identity
from reefleet.rpc.limits import CALL_TIMEOUT_S

logger = logging.getLogger(__name__)

FOLDER = "identity"
CERTIFICATE_FILE = "device.crt"
KEY_FILE = "device.key"
CA_FILE = "ca.crt"
FACTS_FILE = "enrollment.json"
MANIFEST_KEY_BYTES = 32
PATIENCE = Retry(base_s=0.5, ceiling_s=30.0, total_s=600.0)  # of a board that boots first
MAX_CERTIFICATE_BYTES = 64 << 10
_DEVICE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Enrollment:
    """Who this device is, and where its fleet is; its certificate is good for `life_s`."""

    device_id: str
    board: str
    address: str  # "host:port" of the mutual-TLS services
    manifest_key: bytes
    identity: Identity
    issued_at: float  # epoch seconds by the coordinator's clock
    life_s: float


@dataclass(frozen=True, slots=True)
class Request:
    """What an operator gives to enroll a device."""

    server: str  # "host:port" of the enrollment service
    ca: bytes  # PEM
    token: str
    board: str


def enroll(request: Request, state: Path, *, force: bool = False) -> Enrollment:
    """Trade the token for a certificate and keep both below `state`; the key never leaves.

    Raises InputError where the folder holds an identity already and `force` is not given,
    NotEnrolled or Rejected (token), CoordinatorUnavailable, TlsFailure.
    """
    target = state / FOLDER
    folder.recover(target)
    if target.exists() and not force:
        msg = f"{state} already holds a device's identity; give --force to replace it"
        raise InputError(msg)
    host = _host(request.server)
    key = identity.new_key()
    answer = _ask(request, key)
    if not 0 < answer.fleet_port < 1 << 16 or len(answer.manifest_key) != MANIFEST_KEY_BYTES:
        msg = f"the coordinator at {request.server} answered without a usable port and manifest key"
        raise WireError(msg)
    facts = identity.certificate_facts(answer.certificate)
    enrolled = Enrollment(
        device_id=answer.device_id,
        board=request.board,
        address=f"{host}:{answer.fleet_port}",
        manifest_key=answer.manifest_key,
        identity=Identity(identity.certificate_pem(answer.certificate), key, request.ca),
        issued_at=facts.issued_at,
        life_s=facts.ends_at - facts.issued_at,
    )
    state.mkdir(parents=True, exist_ok=True)
    _write(target, enrolled)
    return enrolled


def join(invitation: Invitation, board: str, state: Path) -> None:
    """Enroll with an invitation unless `state` holds an identity; waits for the coordinator.

    Raises as `enroll`; CoordinatorUnavailable only after `PATIENCE` has run out.
    """
    folder.recover(state / FOLDER)
    if (state / FOLDER).exists():
        return
    request = Request(invitation.server, invitation.ca.encode(), invitation.token, board)
    delays = PATIENCE.delays(random.Random())  # noqa: S311 - jitter, not a secret
    while True:
        try:
            enrolled = enroll(request, state)
        except CoordinatorUnavailable as error:  # noqa: PERF203
            delay = next(delays, None)
            if delay is None:
                raise
            logger.warning("waiting for the coordinator", extra={"reason": str(error)})
            time.sleep(delay)
        else:
            logger.info("enrolled", extra={"device": enrolled.device_id})
            return


def load(state: Path) -> Enrollment:
    """The identity below `state`; raises NotEnrolled where there is none, DamagedFile."""
    target = state / FOLDER
    folder.recover(target)
    if not (target / FACTS_FILE).is_file():
        msg = f"{state} holds no identity; run 'reefleet edge enroll' first"
        raise NotEnrolled(msg)
    try:
        facts: Mapping[str, Any] = json.loads((target / FACTS_FILE).read_text(encoding="utf-8"))
        return Enrollment(
            device_id=str(facts["device_id"]),
            board=str(facts["board"]),
            address=str(facts["address"]),
            manifest_key=bytes.fromhex(facts["manifest_key"]),
            identity=Identity(
                (target / CERTIFICATE_FILE).read_bytes(),
                (target / KEY_FILE).read_bytes(),
                (target / CA_FILE).read_bytes(),
            ),
            issued_at=float(facts["issued_at"]),
            life_s=float(facts["life_s"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"the identity in {target} cannot be read: {error}; enroll again with --force"
        raise DamagedFile(msg) from error


def read_ca(path: Path) -> bytes:
    """The fleet's CA certificate, PEM; raises MissingFile."""
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"the CA file {path} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error


def renewed(state: Path, enrolled: Enrollment, key: bytes, certificate: bytes) -> Enrollment:
    """Keep a renewed certificate (DER) and its key in place of the former, whole or not at all.

    Raises WireError where the certificate is for somebody else.
    """
    try:
        facts = identity.certificate_facts(certificate)
        pem = identity.certificate_pem(certificate)
    except InputError as error:
        msg = f"the coordinator at {enrolled.address} answered without a certificate"
        raise WireError(msg) from error
    if facts.common_name != enrolled.device_id:
        msg = f"the coordinator renewed the certificate of {facts.common_name[:63]!r}, not ours"
        raise WireError(msg)
    after = replace(
        enrolled,
        identity=replace(enrolled.identity, certificate=pem, key=key),
        issued_at=facts.issued_at,
        life_s=facts.ends_at - facts.issued_at,
    )
    _write(state / FOLDER, after)
    return after


def _ask(request: Request, key: bytes) -> Any:
    from reefleet.rpc import channel, status
    from reefleet.v1 import fleet_pb2, fleet_pb2_grpc

    message = fleet_pb2.EnrollRequest(
        token=request.token, certificate_request=identity.certificate_request(key)
    )
    opened = channel.enrollment_channel(request.server, request.ca)
    try:
        with opened, status.translated(request.server):
            stub = fleet_pb2_grpc.EnrollmentServiceStub(opened)
            answer = stub.Enroll(message, timeout=CALL_TIMEOUT_S)
    except TlsFailure as error:
        if status.CLOSED_AT_HANDSHAKE not in str(error):
            raise
        msg = f"{request.server} asks for a certificate: the fleet port, not the one to enroll at"
        raise TlsFailure(msg) from error
    if not _DEVICE_ID.fullmatch(answer.device_id) or not answer.certificate:
        msg = f"the coordinator at {request.server} answered without a device id and certificate"
        raise WireError(msg)
    return answer


def _write(target: Path, enrolled: Enrollment) -> None:
    building = folder.begin(target)
    # Temporary files are made with mode 0600 and renamed, so the key is never readable by others.
    write_atomic(building / KEY_FILE, enrolled.identity.key)
    write_atomic(building / CERTIFICATE_FILE, enrolled.identity.certificate)
    write_atomic(building / CA_FILE, enrolled.identity.ca)
    facts = {
        "device_id": enrolled.device_id,
        "board": enrolled.board,
        "address": enrolled.address,
        "manifest_key": enrolled.manifest_key.hex(),
        "issued_at": enrolled.issued_at,
        "life_s": enrolled.life_s,
    }
    write_atomic(building / FACTS_FILE, json.dumps(facts, sort_keys=True).encode())
    folder.publish(target)


def _host(server: str) -> str:
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        msg = f"--server is {server!r}; it must be HOST:PORT"
        raise InputError(msg)
    return host
