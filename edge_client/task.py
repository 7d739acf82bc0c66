"""What the coordinator asks of a device, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from reefleet.plan import SubmodelPlan

FEDERATE = "federate"
PERSONALIZE = "personalize"
DEPLOY = "deploy"

INSTALLED = "installed"  # what became of a deployment
RESTORED = "restored"
KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file by digest; sizes are held against a bound before a byte is fetched."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work; `lease` names it in every later call."""

    kind: str
    lease: str
    round: int
    rounds_total: int
    base_version: int
    plan: SubmodelPlan
    manifest: Artifact
    signature: bytes
    weights: Artifact
    deadline_s: int
    turn: int = 0

    @property
    def program(self) -> str:
        """Name of the bundle's program that does this work."""
        return PERSONALIZE if self.kind == DEPLOY else self.kind


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do; ask again after this time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over for this device."""


Next = Task | Wait | Finished
