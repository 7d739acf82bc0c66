"""The sub-model plan: what one device holds, how it trains, what it uploads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from reefleet.errors import ConfigError

UPLOAD_CODECS = ("float32", "float16", "int8", "codebook4", "codebook2")


@dataclass(frozen=True, slots=True)
class SubmodelPlan:
    """One device's share of the model; made by the coordinator's planner, obeyed by the client.

    `models` is 2 where the device can bear QuPeD's personal model beside the shared one while it
    trains, 1 where the personal model is fitted after the last round. `why` explains the choice.
    """

    exit_depth: int
    bits: int
    batch_size: int
    local_epochs: int
    models: int
    codec: str
    why: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that no device can obey."""
        checks = {
            "exit_depth": self.exit_depth >= 1,
            "bits": 1 <= self.bits <= 8,
            "batch_size": 1 <= self.batch_size <= 1024,
            "local_epochs": 1 <= self.local_epochs <= 1000,
            "models": self.models in {1, 2},
            "codec": self.codec in UPLOAD_CODECS,
        }
        for name, good in checks.items():
            if not good:
                msg = f"plan value {name} = {getattr(self, name)!r} is out of range"
                raise ConfigError(msg)

    @property
    def objective(self) -> str:
        """Name of the objective of the federated rounds."""
        return "reefl-quped" if self.models == 2 else "reefl"

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests and the store."""
        return {**asdict(self), "why": list(self.why)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SubmodelPlan:
        """Read what `to_json` wrote; raises ConfigError naming an unknown or missing key."""
        known = {f.name for f in fields(cls)}
        for name in sorted(set(values) ^ known):
            if name != "why":
                msg = f"plan key {name!r} is {'unknown' if name in values else 'missing'}"
                raise ConfigError(msg)
        return cls(**{**values, "why": tuple(values.get("why", ()))})
