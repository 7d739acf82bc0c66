"""What the store keeps, as plain values; times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reefleet.plan import SubmodelPlan

FEDERATE = "federate"
PERSONALIZE = "personalize"

OPEN = "open"
COMMITTED = "committed"
REFUSED = "refused"
EXPIRED = "expired"

PAUSED = "paused"  # a fact: no new work is handed out while it is not empty

CLOSING = "closing"  # no more updates; the new version is being made
CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A blob that a device may fetch."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Token:
    """An enrollment token, known by its digest only; with several uses it names a beginning."""

    sha256: str
    device_id: str
    expires_at: float
    uses: int = 1


@dataclass(frozen=True, slots=True)
class Enrollment:
    """A certificate (DER) that a token was traded for, and the request it answered."""

    token: str
    request_sha256: str
    device_id: str
    certificate: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Device:
    """An enrolled device. `failure` says why it has no usable bundle; '' where nothing is wrong.

    `next_...` is a renewed certificate that the device has not called with yet.
    """

    device_id: str
    serial: str
    fingerprint: str
    enrolled_at: float
    last_seen_at: float | None = None
    profile: Mapping[str, Any] | None = None
    plan: SubmodelPlan | None = None
    planned_for: str = ""  # what the plan depended on; another value means planning again
    bundle_key: str = ""
    failure: str = ""
    certificate_ends_at: float | None = None
    next_serial: str = ""
    next_fingerprint: str = ""
    next_ends_at: float | None = None
    next_request_sha256: str = ""
    next_certificate: bytes | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A compiled task bundle whose files are blobs."""

    key: str
    manifest: Artifact
    signature: bytes
    files: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A shared model; version 0 is the pretrained one. `artifact` packs all of its tensors.

    Of a retired version only this record is left.
    """

    number: int
    artifact: Artifact
    created_at: float
    is_retired: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """The packed weights of a version that a sub-model of `depth` blocks holds, and their norm."""

    version: int
    depth: int
    artifact: Artifact
    norm: float


@dataclass(frozen=True, slots=True)
class Round:
    """One round; `deadline_at` is wall time, `needed` the updates that close it early."""

    number: int
    base_version: int
    state: str
    needed: int
    opened_at: float
    deadline_at: float
    closed_at: float | None = None
    reason: str = ""
    result_version: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """One piece of work of one device, named by its lease."""

    lease: str
    kind: str
    round: int
    device_id: str
    plan: SubmodelPlan
    base_version: int
    manifest: Artifact
    signature: bytes
    weights: Artifact
    opened_at: float
    state: str = OPEN
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """An accepted update; `metrics` is what the device reported beside it."""

    round: int
    device_id: str
    artifact: Artifact
    samples: int
    depth: int
    metrics: Mapping[str, Any]
    accepted_at: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something a device sent that was not taken, and why."""

    round: int
    device_id: str
    sha256: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class PersonalReport:
    """A device's figures after the last round."""

    round: int
    device_id: str
    metrics: Mapping[str, Any]
    early_exit: Mapping[str, Any]
    at: float
