"""Manifests as bytes: canonical JSON out, and every value checked on the way in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any, TypeVar

from reefleet.errors import ConfigError, UnsupportedVersion, WireError
from reefleet.model import LogMel, ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan
from reefleet.wire.manifest import (
    BatchInput,
    ExitFigures,
    FileEntry,
    Initializer,
    Phase,
    Predict,
    Program,
    Scalar,
    Stage,
    StateTensor,
    SubmodelBundle,
    TaskBundle,
    Variant,
)

FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 4 << 20


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
