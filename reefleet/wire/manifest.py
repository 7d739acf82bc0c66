"""Manifests: the contract between `export`, which builds bundles, and the client, which runs them.

Two kinds share one envelope. A *task bundle* holds the training programs and the graphs of one
plan, without weights. A *sub-model bundle* is what a device answers from: the same stage graphs
with packed weights, thresholds and labels. JSON, canonical (sorted keys, no spaces), so that one
manifest has one digest; files are named by sha256 and checked before use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reefleet.model import ModelSpec, Preprocessing, Shape
from reefleet.plan import SubmodelPlan

FROZEN = "frozen"  # the role of a state tensor that no step changes


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StateTensor:
    """One state tensor of a training program: graph input `name`, graph output `next.` + name.

    A tensor of the role `frozen` is an input alone. `init` says where the first value comes from:
    `weights` (the downloaded or stored tensor `source`), `lloyd` (centers fitted to the weights
    `source`), `zeros`, or `file` (init.safetensors).
    """

    name: str
    role: str
    shape: Shape
    init: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class BatchInput:
    """One per-batch input of a program; `dtype` is a numpy name."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar input and its schedule over progress p in [0, 1) through the whole run.

    kind `constant`: start. `linear`: start + (end - start) p. `cosine`: half a cosine from start
    to end. `ramp`: end * exp(-5 (1 - p)^2), ReeFL's KL ramp relative to the run's length.
    `ramp-until`: the same with p / start, at most 1, for p.
    `phases` overrides the schedule inside the named phase.
    """

    name: str
    kind: str
    start: float
    end: float = 0.0
    phases: Mapping[str, float] | None = None

    def at(self, progress: float, phase: str) -> float:
        """Value at `progress` in [0, 1] within `phase`."""
        if self.phases and phase in self.phases:
            return self.phases[phase]
        if self.kind == "constant":
            return self.start
        if self.kind == "linear":
            return self.start + (self.end - self.start) * progress
        if self.kind == "cosine":
            return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress))
        risen = min(1.0, progress / self.start) if self.kind == "ramp-until" else progress
        return self.end * math.exp(-5 * (1 - risen) ** 2)


@dataclass(frozen=True, slots=True)
class Phase:
    """A run of `epochs` over the data; `enter` names a host policy to apply first, or none.

    The policies are those of `reefleet.wire.codebook.settle`.
    """

    name: str
    epochs: int
    enter: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """One training step graph and all a client needs to loop over it."""

    file: str
    objective: str
    state: tuple[StateTensor, ...]
    batch: tuple[BatchInput, ...]
    scalars: tuple[Scalar, ...]
    metrics: tuple[str, ...]
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class Initializer:
    """A weight that a stage graph expects: `name` in the graph, made from `source` in this form.

    float32: as stored. int8-transposed: grid steps [in, out].
    scale: the codebook's grid step as a float32 scalar.
    """

    name: str
    source: str
    form: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage graph: inputs `image` or (`tokens`, `history`); outputs `logits` and those two.

    `tokens` is what the backbone hands on, in a convolutional model a map [1, H, W, C].
    """

    file: str
    exit_depth: int
    macs: int
    initializers: tuple[Initializer, ...]


@dataclass(frozen=True, slots=True)
class Predict:
    """The batch graph: inputs `image` and one per weight name, output `logits` [B, E, classes]."""

    file: str
    batch: int
    weights: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskBundle:
    """What a device receives for a plan. `programs` holds `federate` and `personalize`."""

    model: ModelSpec
    plan: SubmodelPlan
    programs: Mapping[str, Program]
    predict: Predict
    stages: tuple[Stage, ...]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    files: Mapping[str, FileEntry]
    producer: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A form of the sub-model with its weights inside, for one runtime.

    One file gives `logits` [B, E, classes]; where `staged`, each stage of a chain gives `logits`
    [B, classes]: a file each, or for LiteRT all in one file, whose signatures `stage_name` names.
    `form` says how the weights are held and multiplied.
    """

    name: str
    runtime: str
    form: str
    files: tuple[str, ...]
    staged: bool
    batch: int


@dataclass(frozen=True, slots=True)
class ExitFigures:
    """One exit as measured when the bundle was built: share right, and difference from torch.

    `relative_error` is of the largest logit, of the worst file. `early_exits` is the share of the
    validation samples that leave here.
    """

    exit_depth: int
    macs: int
    float_accuracy: float
    accuracy: float
    early_exits: float
    relative_error: float


@dataclass(frozen=True, slots=True)
class SubmodelBundle:
    """What a device answers from; `thresholds[i]` is the least confidence to leave at stage i.

    What `export` adds for people and other programs: variants, a license, measured figures, and
    samples with the logits that torch gives for them (`samples`, an .npz).
    """

    model: ModelSpec
    plan: SubmodelPlan
    stages: tuple[Stage, ...]
    weights: str
    thresholds: tuple[float, ...]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    files: Mapping[str, FileEntry]
    provenance: Mapping[str, str]
    variants: tuple[Variant, ...] = ()
    exits: tuple[ExitFigures, ...] = ()
    samples: str = ""
    card: str = ""
    license: str = ""


def stage_name(position: int) -> str:
    """Name of the stage at a position from the shallow end, as a graph and as a signature."""
    return f"stage-{position}"
