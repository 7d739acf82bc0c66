"""The sub-model plan: what one device holds, how it trains, what it uploads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from reefleet.errors import ConfigError

UPLOAD_CODECS = ("float32", "float16", "int8", "codebook4", "codebook2")
CLIP = "clip"
KNOWN_CODECS = (CLIP, *UPLOAD_CODECS)  # steps that a client of this version can do
MOST_STAGES = 4
TrainedSet = Literal["full", "frozen", "lora", "ssf", "adapters", "parallel-adapters"]
TRAINED_SETS = get_args(TrainedSet)
_OPTIONAL = ("why", "layer_bits", "trained", "local_steps")


@dataclass(frozen=True, slots=True)
class CodecStage:
    """One step of an upload codec; `argument` is what `clip` bounds the norm by, else 0."""

    name: str
    argument: float = 0.0


def codec_stages(codec: str) -> tuple[CodecStage, ...]:
    """The steps of a codec such as "clip:1.0,int8", in the order in which the device takes them.

    The last is one of UPLOAD_CODECS. Empty where the text is no codec.
    """
    *before, last = codec.split(",")
    if last not in UPLOAD_CODECS or len(before) >= MOST_STAGES:
        return ()
    stages = []
    for part in before:
        name, _, argument = part.partition(":")
        try:
            bound = float(argument)
        except ValueError:
            return ()
        if name != CLIP or not 0 < bound < math.inf:
            return ()
        stages.append(CodecStage(name, bound))
    return (*stages, CodecStage(last))


@dataclass(frozen=True, slots=True)
class SubmodelPlan:
    """One device's share of the model; made by the coordinator's planner, obeyed by the client.

    `models` is 2 where the device can bear QuPeD's personal model beside the shared one while it
    trains, 1 where the personal model is fitted after the last round. `layer_bits` gives each
    quantized tensor its own bit-width, in the order of `reefleet.model.quantized_tensors`; empty
    means `bits` for all of them. `trained` names the tensors that training moves and the device
    sends; `local_steps` ends a round's training early, 0 does not. `why` explains the choice.
    """

    exit_depth: int
    bits: int
    batch_size: int
    local_epochs: int
    models: int
    codec: str
    why: tuple[str, ...] = ()
    layer_bits: tuple[int, ...] = ()
    trained: str = "full"
    local_steps: int = 0

    def __post_init__(self) -> None:
        """Refuse values that no device can obey."""
        checks = {
            "exit_depth": self.exit_depth >= 1,
            "bits": 1 <= self.bits <= 8,
            "batch_size": 1 <= self.batch_size <= 1024,
            "local_epochs": 1 <= self.local_epochs <= 1000,
            "models": self.models in {1, 2},
            "codec": bool(codec_stages(self.codec)),
            "layer_bits": all(1 <= bits <= 8 for bits in self.layer_bits),
            "trained": self.trained in TRAINED_SETS,
            "local_steps": 0 <= self.local_steps <= 1_000_000,
        }
        for name, good in checks.items():
            if not good:
                msg = f"plan value {name} = {getattr(self, name)!r} is out of range"
                raise ConfigError(msg)

    @property
    def objective(self) -> str:
        """Name of the objective of the federated rounds."""
        return "reefl-quped" if self.models == 2 else "reefl"

    def widths(self, tensors: Sequence[str]) -> dict[str, int]:
        """Bits of each of these quantized tensors; raises ConfigError for another number."""
        if self.layer_bits and len(self.layer_bits) != len(tensors):
            msg = f"the plan has bits for {len(self.layer_bits)} tensors, there are {len(tensors)}"
            raise ConfigError(msg)
        each = self.layer_bits or (self.bits,) * len(tensors)
        return dict(zip(tensors, each, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests and the store."""
        return {**asdict(self), "why": list(self.why), "layer_bits": list(self.layer_bits)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SubmodelPlan:
        """Read what `to_json` wrote; raises ConfigError naming an unknown or missing key."""
        known = {f.name for f in fields(cls)}
        for name in sorted(set(values) ^ known):
            if name not in known or name not in _OPTIONAL:
                msg = f"plan key {name!r} is {'unknown' if name in values else 'missing'}"
                raise ConfigError(msg)
        lists = {name: tuple(values.get(name, ())) for name in ("why", "layer_bits")}
        return cls(**{**values, **lists})
