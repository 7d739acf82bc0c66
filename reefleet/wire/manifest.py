"""Manifests: the contract between `export`, which builds bundles, and the client, which runs them.

Two kinds share one envelope. A *task bundle* holds the training programs and the graphs of one
plan, without weights. A *sub-model bundle* is what a device answers from: the same stage graphs
with packed weights, thresholds and labels. JSON, canonical (sorted keys, no spaces), so that one
manifest has one digest; files are named by sha256 and checked before use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from reefleet.errors import ConfigError, UnsupportedVersion, WireError
from reefleet.model import LogMel, ModelSpec, Preprocessing, Shape
from reefleet.plan import SubmodelPlan

FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 4 << 20
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


def to_bytes(manifest: TaskBundle | SubmodelBundle) -> bytes:
    """Canonical JSON; the same manifest always gives the same bytes."""
    kind = "task" if isinstance(manifest, TaskBundle) else "submodel"
    values = {
        **asdict(manifest),
        "format": FORMAT_VERSION,
        "kind": kind,
        "model": manifest.model.to_json(),
        "plan": manifest.plan.to_json(),
        "preprocessing": manifest.preprocessing.to_json(),
    }
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def task_from_bytes(data: bytes) -> TaskBundle:
    """Read a task manifest; raises UnsupportedVersion or WireError naming what is wrong."""
    values = _envelope(data, "task")
    with _well_formed():
        predict = _mapping(values, "predict")
        bundle = _build(
            TaskBundle,
            values,
            programs={n: _program(value) for n, value in _mapping(values, "programs").items()},
            predict=_build(Predict, predict, weights=tuple(predict["weights"])),
            stages=_stages(values),
            labels=tuple(str(label) for label in values.get("labels", ())),
            preprocessing=_preprocessing(values),
        )
    named = [program.file for program in bundle.programs.values()]
    _check_listed([*named, bundle.predict.file, *(s.file for s in bundle.stages)], bundle.files)
    return bundle


def submodel_from_bytes(data: bytes) -> SubmodelBundle:
    """Read a sub-model manifest; raises UnsupportedVersion or WireError naming what is wrong."""
    values = _envelope(data, "submodel")
    with _well_formed():
        bundle = _build(
            SubmodelBundle,
            values,
            stages=_stages(values),
            thresholds=tuple(float(t) for t in values.get("thresholds", ())),
            labels=tuple(str(label) for label in values.get("labels", ())),
            preprocessing=_preprocessing(values),
            variants=tuple(_variant(value) for value in values.get("variants", ())),
            exits=_each(ExitFigures, values.get("exits", ())),
        )
    if (found := len(bundle.thresholds)) != (stages := len(bundle.stages)):
        msg = f"the manifest has {stages} stages and {found} thresholds"
        raise WireError(msg)
    named = [bundle.weights, *(stage.file for stage in bundle.stages)]
    named += [file for variant in bundle.variants for file in variant.files]
    named += [file for file in (bundle.samples, bundle.card) if file]
    _check_listed(named, bundle.files)
    return bundle


def _envelope(data: bytes, kind: str) -> dict[str, Any]:
    if len(data) > MAX_MANIFEST_BYTES:
        msg = f"the manifest has {len(data)} bytes; the limit is {MAX_MANIFEST_BYTES}"
        raise WireError(msg)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"the manifest is not JSON: {error}"
        raise WireError(msg) from error
    if not isinstance(values, dict):
        msg = "the manifest is not a JSON object"
        raise WireError(msg)
    version = values.pop("format", None)
    if not isinstance(version, int) or version < 1:
        msg = f"the manifest names no format version (found {version!r})"
        raise WireError(msg)
    if version > FORMAT_VERSION:
        msg = (
            f"the manifest has format {version}, this program reads up to {FORMAT_VERSION}; "
            "update reefleet on this machine"
        )
        raise UnsupportedVersion(msg)
    if (found := values.pop("kind", None)) != kind:
        msg = f"expected a {kind} manifest, found {found!r}"
        raise WireError(msg)
    try:
        values["model"] = ModelSpec.from_json(_mapping(values, "model"))
        values["plan"] = SubmodelPlan.from_json(_mapping(values, "plan"))
    except (ConfigError, TypeError) as error:
        msg = f"the manifest is not usable: {error}"
        raise WireError(msg) from error
    values["files"] = _files(_mapping(values, "files"))
    return values


def _files(values: Mapping[str, Any]) -> dict[str, FileEntry]:
    files = {}
    for name, entry in values.items():
        if not name or name != name.strip() or "/" in name or "\\" in name or name.startswith("."):
            msg = f"the manifest names a file {name!r}; only plain names are allowed"
            raise WireError(msg)
        files[name] = built = _build(FileEntry, entry)
        if len(built.sha256) != 64 or set(built.sha256) - set("0123456789abcdef"):
            msg = f"the manifest's digest of {name!r} is not a sha256"
            raise WireError(msg)
        if built.size_bytes < 0:
            msg = f"the manifest's size of {name!r} is not a byte count"
            raise WireError(msg)
    return files


def _preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    found = _mapping(values, "preprocessing")
    if found.get("sound") is None:
        return _build(Preprocessing, found)
    return _build(Preprocessing, found, sound=_build(LogMel, found["sound"]))


def _program(value: Any) -> Program:
    return _build(
        Program,
        value,
        state=_each(StateTensor, value.get("state", ())),
        batch=_each(BatchInput, value.get("batch", ())),
        scalars=_each(Scalar, value.get("scalars", ())),
        metrics=tuple(value.get("metrics", ())),
        phases=_each(Phase, value.get("phases", ())),
    )


def _stages(values: Mapping[str, Any]) -> tuple[Stage, ...]:
    return tuple(
        _build(Stage, stage, initializers=_each(Initializer, stage.get("initializers", ())))
        for stage in values.get("stages", ())
    )


def _variant(value: Any) -> Variant:
    built = _build(Variant, value, files=tuple(str(file) for file in value.get("files", ())))
    if not isinstance(value.get("staged"), bool) or not built.files:
        msg = f"the manifest's variant {built.name!r} names no files or is neither staged nor not"
        raise WireError(msg)
    return built


def _check_listed(named: Iterable[str], files: Mapping[str, FileEntry]) -> None:
    # Only listed names have been checked to be plain and have a digest.
    for name in named:
        if name not in files:
            msg = f"the manifest uses a file {name!r} that it does not list"
            raise WireError(msg)


@contextmanager
def _well_formed() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"the manifest is not usable: {error!r}"
        raise WireError(msg) from error


_Entry = TypeVar("_Entry")
_PLAIN_TYPES: Mapping[Any, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


def _each(cls: type[_Entry], items: Iterable[Any]) -> tuple[_Entry, ...]:
    return tuple(_build(cls, item) for item in items)


def _build(cls: type[_Entry], values: Any, **converted: Any) -> _Entry:
    if not isinstance(values, Mapping):
        msg = f"the manifest's {cls.__name__} entry is not an object"
        raise WireError(msg)
    known = {f.name: _PLAIN_TYPES.get(f.type) for f in fields(cls)}  # type: ignore[arg-type]  # cls is one of the dataclasses above
    if unknown := sorted(set(values) - set(known)):
        msg = f"the manifest has an unknown key {unknown[0]!r} in {cls.__name__}"
        raise WireError(msg)
    chosen = {**values, **converted}
    if "shape" in known and "shape" in chosen:
        chosen["shape"] = tuple(int(extent) for extent in chosen["shape"])
    for name, value in chosen.items():
        if (types := known[name]) and (isinstance(value, bool) or not isinstance(value, types)):
            msg = f"the manifest's {cls.__name__} entry has {name} = {value!r}"
            raise WireError(msg)
    try:
        return cls(**chosen)
    except TypeError as error:
        msg = f"the manifest's {cls.__name__} entry is incomplete: {error}"
        raise WireError(msg) from error


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    if not isinstance(found, Mapping):
        msg = f"the manifest has no {key!r} object"
        raise WireError(msg)
    return found
