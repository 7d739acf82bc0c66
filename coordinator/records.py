"""What the store keeps, as plain values; times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reefleet.plan import SubmodelPlan

FEDERATE = "federate"
PERSONALIZE = "personalize"
DEPLOY = "deploy"

OPEN = "open"
COMMITTED = "committed"
REFUSED = "refused"
EXPIRED = "expired"

PAUSED = "paused"  # a fact: no new work is handed out while it is not empty

CANARY = "canary"  # a deployment: a share of the devices tries it first
ROLLING = "rolling"  # every device gets it
DONE = "done"
HALTED = "halted"  # too few of the canaries kept it
ENDED = "ended"  # by a later deployment or a rollback

INSTALLED = "installed"  # what a device did with a deployment
RESTORED = "restored"
KEPT = "kept"  # its own test found the new sub-model worse

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
    codecs: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """A device's profile, the plan made for it, what that depended on, and the bundle it needs."""

    device_id: str
    profile: Mapping[str, Any]
    plan: SubmodelPlan
    planned_for: str
    bundle_key: str


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

    Of a retired version only this record is left. `optimizer` packs what the server optimizer
    remembers.
    """

    number: int
    artifact: Artifact
    created_at: float
    is_retired: bool = False
    optimizer: Artifact | None = None


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
class Upload:
    """What is known of an upload: its work, the digest that was accepted, what was announced."""

    work: Assignment | None
    accepted_sha256: str
    announced: Artifact | None


@dataclass(frozen=True, slots=True)
class Update:
    """An accepted update; `metrics` is what the device reported beside it.

    `round` is that of its work, `folded_in` the one that folds it; None: it waits for the next.
    `rms` is the root mean square of its values, `base_version` what it moves.
    """

    round: int
    device_id: str
    artifact: Artifact
    samples: int
    depth: int
    metrics: Mapping[str, Any]
    accepted_at: float
    lease: str = ""
    base_version: int = 0
    rms: float = 0.0
    folded_in: int | None = None


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


@dataclass(frozen=True, slots=True)
class Deployment:
    """A version on its way to devices: to `share` of them first where that is below 1.

    `previous` is the version to go back to; None where devices had none. A rollback goes only to
    the devices that took what it undoes.
    """

    number: int
    version: int
    share: float
    state: str
    started_at: float
    previous: int | None = None
    ended_at: float | None = None
    is_rollback: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """What one device did with a deployment; `accuracy_before` is None where it had nothing."""

    deployment: int
    device_id: str
    outcome: str
    accuracy: float
    accuracy_before: float | None
    early_exit: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class DeploymentCounts:
    """How far a deployment is."""

    devices: int = 0
    installed: int = 0
    restored: int = 0
    kept: int = 0
    accuracy: float | None = None  # mean over the devices that answered
    accuracy_before: float | None = None

    @property
    def taken(self) -> int:
        """Devices that answer from the version."""
        return self.installed + self.restored
