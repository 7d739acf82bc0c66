"""Manifests: one digest a manifest, and refusals that name what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reefleet.errors import UnsupportedVersion, WireError
from reefleet.model import ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan
from reefleet.wire import manifest as m
from reefleet.wire import manifest_json as mj

SPEC = ModelSpec(8, 2, 1, 32, 4, 3, 10, (1, 3))
PLAN = SubmodelPlan(3, 4, 16, 2, 2, "int8", ("fits",))
ENTRY = m.FileEntry("ab" * 32, 123)
STAGES = (
    m.Stage("stage-0.onnx", 1, 1000, (m.Initializer("w", "blocks.0.w", "int8-transposed"),)),
    m.Stage("stage-1.onnx", 3, 3000, ()),
)
PROGRAM = m.Program(
    file="train.onnx",
    objective="reefl-quped",
    state=(m.StateTensor("shared/w", "shared", (2, 3), "weights", "w"),),
    batch=(m.BatchInput("image", (16, 1, 8, 8), "float32"),),
    scalars=(m.Scalar("lr", "cosine", 0.1, 0.0, {"hard": 0.01}),),
    metrics=("loss",),
    phases=(m.Phase("soft", 2), m.Phase("hard", 1, "snap")),
)
TASK = m.TaskBundle(
    model=SPEC,
    plan=PLAN,
    programs={"federate": PROGRAM, "personalize": replace(PROGRAM, file="personalize.onnx")},
    predict=m.Predict("predict.onnx", 64, ("w", "b")),
    stages=STAGES,
    labels=tuple("0123456789"),
    preprocessing=Preprocessing(8, 1, 0.3, 0.4),
    files=dict.fromkeys(
        ("train.onnx", "personalize.onnx", "predict.onnx", "stage-0.onnx", "stage-1.onnx"), ENTRY
    ),
    producer="reefleet 0.1.0",
)
SUBMODEL = m.SubmodelBundle(
    model=SPEC,
    plan=PLAN,
    stages=STAGES,
    weights="weights.rft",
    thresholds=(0.9, 0.0),
    labels=tuple("0123456789"),
    preprocessing=Preprocessing(8, 1, 0.3, 0.4),
    files=dict.fromkeys(("weights.rft", "stage-0.onnx", "stage-1.onnx"), ENTRY),
    provenance={"round": "8"},
)
Edit = Callable[[dict[str, Any]], object]


def edited(manifest: m.TaskBundle | m.SubmodelBundle, edit: Edit) -> bytes:
    values = json.loads(mj.to_bytes(manifest))
    edit(values)
    return json.dumps(values).encode()


def test_a_task_manifest_survives_its_bytes() -> None:
    assert mj.task_from_bytes(mj.to_bytes(TASK)) == TASK


def test_a_submodel_manifest_survives_its_bytes() -> None:
    assert mj.submodel_from_bytes(mj.to_bytes(SUBMODEL)) == SUBMODEL


@pytest.mark.parametrize("manifest", [TASK, SUBMODEL])
def test_reading_and_writing_again_gives_the_same_bytes(
    manifest: m.TaskBundle | m.SubmodelBundle,
) -> None:
    data = mj.to_bytes(manifest)
    again = mj.task_from_bytes if isinstance(manifest, m.TaskBundle) else mj.submodel_from_bytes
    assert mj.to_bytes(again(data)) == data


def test_the_order_of_the_files_does_not_change_the_bytes() -> None:
    turned = replace(TASK, files=dict(reversed(list(TASK.files.items()))))
    assert mj.to_bytes(turned) == mj.to_bytes(TASK)


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    data = edited(TASK, lambda v: v.update(format=2, novelty=1))
    with pytest.raises(UnsupportedVersion, match=r"format 2.*update reefleet"):
        mj.task_from_bytes(data)


@pytest.mark.parametrize("version", [None, 0, "1", -1])
def test_a_manifest_without_a_format_version_is_refused(version: object) -> None:
    with pytest.raises(WireError, match="format version"):
        mj.task_from_bytes(edited(TASK, lambda v: v.update(format=version)))


def test_the_other_kind_of_manifest_is_refused() -> None:
    with pytest.raises(WireError, match="expected a task manifest, found 'submodel'"):
        mj.task_from_bytes(mj.to_bytes(SUBMODEL))


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "a/b", "..", ".hidden", "c:\\x", "", " train.onnx", "train.onnx\n"],
)
def test_a_file_name_with_path_parts_is_refused(name: str) -> None:
    data = edited(TASK, lambda v: v["files"].update({name: v["files"]["train.onnx"]}))
    with pytest.raises(WireError, match="only plain names are allowed"):
        mj.task_from_bytes(data)


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v["programs"]["federate"].update(file="../train.onnx"),
        lambda v: v["predict"].update(file="../train.onnx"),
        lambda v: v["stages"][0].update(file="../train.onnx"),
    ],
)
def test_a_file_that_is_used_but_not_listed_is_refused(edit: Edit) -> None:
    with pytest.raises(WireError, match=r"'\.\./train\.onnx' that it does not list"):
        mj.task_from_bytes(edited(TASK, edit))


def test_weights_that_are_not_listed_are_refused() -> None:
    with pytest.raises(WireError, match=r"'weights\.rft' that it does not list"):
        mj.submodel_from_bytes(edited(SUBMODEL, lambda v: v["files"].pop("weights.rft")))


@pytest.mark.parametrize("digest", ["", "AB" * 32, "ab" * 31, "zz" * 32, 5, None])
def test_a_digest_that_is_no_sha256_is_refused(digest: object) -> None:
    data = edited(TASK, lambda v: v["files"]["train.onnx"].update(sha256=digest))
    with pytest.raises(WireError, match="sha256"):
        mj.task_from_bytes(data)


@pytest.mark.parametrize("size", [-1, 1.5, "1", None, True])
def test_a_size_that_is_no_byte_count_is_refused(size: object) -> None:
    data = edited(TASK, lambda v: v["files"]["train.onnx"].update(size_bytes=size))
    with pytest.raises(WireError, match="size"):
        mj.task_from_bytes(data)


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v.update(novelty=1),
        lambda v: v["model"].update(novelty=1),
        lambda v: v["plan"].update(novelty=1),
        lambda v: v["predict"].update(novelty=1),
        lambda v: v["stages"][0].update(novelty=1),
        lambda v: v["stages"][0]["initializers"][0].update(novelty=1),
        lambda v: v["programs"]["federate"].update(novelty=1),
        lambda v: v["programs"]["federate"]["state"][0].update(novelty=1),
        lambda v: v["files"]["train.onnx"].update(novelty=1),
    ],
)
def test_an_unknown_key_is_refused_by_name(edit: Edit) -> None:
    with pytest.raises(WireError, match="novelty"):
        mj.task_from_bytes(edited(TASK, edit))


def test_a_manifest_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(WireError, match="the limit is"):
        mj.task_from_bytes(b"[" * (mj.MAX_MANIFEST_BYTES + 1))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"1", b"[" * 100_000, b"null"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="JSON"):
        mj.task_from_bytes(data)


def test_thresholds_must_match_the_stages() -> None:
    data = edited(SUBMODEL, lambda v: v.update(thresholds=[0.5]))
    with pytest.raises(WireError, match="2 stages and 1 thresholds"):
        mj.submodel_from_bytes(data)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Path of every value in a JSON document."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [p for key, item in value.items() for p in places(item, (*path, key))]
    elif isinstance(value, list):
        found += [p for index, item in enumerate(value) for p in places(item, (*path, index))]
    return found


PLACES = {
    kind: places(json.loads(mj.to_bytes(manifest)))
    for kind, manifest in (("task", TASK), ("submodel", SUBMODEL))
}
DROPPED = object()


@settings(deadline=None)
@given(
    st.sampled_from([(kind, path) for kind, paths in PLACES.items() for path in paths]),
    st.sampled_from([DROPPED, None, 5, -1, 1.5, "x", [], [1], {}, {"x": 1}, True, 10**400]),
)
def test_any_value_replaced_or_dropped_is_refused_or_readable(
    place: tuple[str, tuple[Any, ...]], value: object
) -> None:
    kind, (*parents, last) = place

    def edit(values: Any) -> None:
        for key in parents:
            values = values[key]
        if value is DROPPED:
            del values[last]
        else:
            values[last] = value

    manifest = TASK if kind == "task" else SUBMODEL
    read = mj.task_from_bytes if kind == "task" else mj.submodel_from_bytes
    with suppress(WireError):
        read(edited(manifest, edit))


@pytest.mark.parametrize(
    ("kind", "progress", "expected"),
    [
        ("constant", 0.7, 2.0),
        ("linear", 0.25, 2.5),
        ("cosine", 0.0, 2.0),
        ("cosine", 0.5, 3.0),
        ("ramp", 0.0, 4 * 0.006737946999),
        ("ramp", 1.0, 4.0),
        ("ramp-until", 1.0, 4 * 0.2865047969),
    ],
)
def test_a_schedule_gives_its_value(kind: str, progress: float, expected: float) -> None:
    assert m.Scalar("s", kind, 2.0, 4.0).at(progress, "") == pytest.approx(expected)


def test_a_phase_overrides_the_schedule() -> None:
    scalar = m.Scalar("s", "linear", 2.0, 4.0, {"hard": 0.5})
    assert (scalar.at(0.5, "hard"), scalar.at(0.5, "soft")) == (0.5, 3.0)
