"""Verification, measurement and display of a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from export.bundle import entries
from export.readback import onnx_steps
from reefleet.wire.manifest_json import submodel_from_bytes, to_bytes

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sound(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from reefleet.cli import main

    out = tmp_path_factory.mktemp("check") / "out"
    forms = ["--format", "onnx", "--format", "tflite", "--format", "tensorrt", "--form", "int8"]
    made = ["--depth", "2", "--bits", "4", "--jetpack", "6.2", "--out", str(out)]
    assert main(["export", "build", str(inputs.checkpoint), *inputs.arguments, *forms, *made]) == 0
    return out


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


def rewrite(bundle: Path, name: str, data: bytes) -> None:
    """Put another file in, under a digest that fits."""
    (bundle / name).write_bytes(data)
    manifest = submodel_from_bytes((bundle / "manifest.json").read_bytes())
    files = {**manifest.files, **entries({name: data})}
    (bundle / "manifest.json").write_bytes(to_bytes(replace(manifest, files=files)))


def test_a_sound_bundle_holds_in_every_respect(sound: Path, reefleet: Run) -> None:
    code, text, _ = reefleet("export", "check", sound)
    assert code == 0
    subjects = [line.split()[1] for line in text.splitlines()]
    assert subjects[:3] == ["digests", "schemas", "stages"]
    assert {"onnx-int8", "tflite-int8", "tensorrt-qdq", "tensorrt-float32"} < set(subjects)
    assert text.count("13 weights equal the packed codes") == 5
    assert text.count("rules of JetPack 6.2 (TensorRT 10.3)") == 4


def test_findings_come_as_json(sound: Path, reefleet: Run) -> None:
    code, text, _ = reefleet("export", "check", sound, "--json")
    assert code == 0
    assert json.loads(text)[0]["subject"] == "digests"


def test_a_changed_file_is_named(bundle: Path, reefleet: Run) -> None:
    with (bundle / "model.int8.onnx").open("ab") as file:
        file.write(b"\0")
    code, _, error = reefleet("export", "check", bundle)
    assert code == 76
    assert "model.int8.onnx is not the file that the manifest names" in error


def test_a_missing_file_is_named(bundle: Path, reefleet: Run) -> None:
    (bundle / "stage-1.onnx").unlink()
    code, _, error = reefleet("export", "check", bundle)
    assert code == 66
    assert "stage-1.onnx cannot be read" in error


def test_a_weight_off_its_code_is_named(bundle: Path, reefleet: Run) -> None:
    name = "model.int8.onnx"
    data = (bundle / name).read_bytes()
    steps, _ = onnx_steps(data)["blocks.1.attn.proj.weight"]
    stored = steps.T.tobytes()
    rewrite(bundle, name, data.replace(stored, bytes([stored[0] ^ 1]) + stored[1:]))
    code, _, error = reefleet("export", "check", bundle)
    assert code == 70
    assert "model.int8.onnx: the weights of 'blocks.1.attn.proj.weight' are not" in error


def test_a_graph_that_computes_something_else_is_named_with_its_exit(
    bundle: Path, reefleet: Run
) -> None:
    data = (bundle / "stage-1.onnx").read_bytes()
    rewrite(bundle, "stage-1.onnx", data.replace(b"Gelu", b"Relu"))
    code, _, error = reefleet("export", "check", bundle)
    assert code == 70
    assert "stage-1.onnx: exit 2 differs from torch by" in error


def test_what_is_no_graph_is_named(bundle: Path, reefleet: Run) -> None:
    rewrite(bundle, "model.int8.onnx", b"not a graph")
    code, _, error = reefleet("export", "check", bundle)
    assert code == 70
    assert "model.int8.onnx is not a valid ONNX model" in error


def test_what_is_no_bundle_is_refused(tmp_path: Path, reefleet: Run) -> None:
    code, _, error = reefleet("export", "check", tmp_path)
    assert code == 66
    assert "manifest.json cannot be read" in error


def test_show_prints_the_manifest_for_people_and_a_picture(
    sound: Path, tmp_path: Path, reefleet: Run
) -> None:
    picture = tmp_path / "picture.svg"
    code, text, _ = reefleet("export", "show", sound, "--picture", picture)
    assert code == 0
    assert "sub-model   2 of 3 blocks, 4 bits a linear weight" in text
    assert "accuracy against latency, by exit depth" in text
    assert "model.int8.tflite" in text
    assert picture.read_text().startswith("<?xml")


@pytest.mark.slow
def test_bench_measures_every_form_at_one_and_two_threads(sound: Path, reefleet: Run) -> None:
    code, text, _ = reefleet("export", "bench", sound, "--runs", 2, "--json")
    assert code == 0
    result = json.loads(text)
    names = {(row["name"], row["threads"]) for row in result["rows"]}
    forms = {"full model, float32", "onnx-int8", "tflite-int8", "stages to exit 1"}
    assert {(form, threads) for form in forms for threads in (1, 2)} < names
    for row in result["rows"]:
        assert 0 < row["figures"]["p50_ms"] <= row["figures"]["p95_ms"]
        assert row["size_bytes"] > 0
        assert row["macs"] > 0
    assert result["early_exit"]["mean_ms"] <= result["early_exit"]["full_depth_ms"]
