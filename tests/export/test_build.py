"""Bundles: complete, deterministic, proven equal, refused with one sentence, no leftovers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from export import parity
from reefleet.blobs import sha256_hex
from reefleet.wire.manifest_json import submodel_from_bytes
from reefleet.wire.tensors import CodebookTensor, Float32Tensor, pack_tensors, unpack_tensors

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundles(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle for a Pi, one for a Jetson."""
    from reefleet.cli import main

    out = tmp_path_factory.mktemp("build") / "out"
    devices = ["--device", "rpi-zero2w", "--device", "jetson-orin-nano", "--bits", "3"]
    made = ["--license", "CC0-1.0", "--samples", "20", "--out", str(out)]
    command = ["export", "build", str(inputs.checkpoint), *inputs.arguments, *devices, *made]
    assert main(command) == 0
    return out


def build(inputs: Inputs, *arguments: object) -> list[object]:
    return ["export", "build", inputs.checkpoint, *inputs.arguments, *arguments]


def test_every_board_gets_a_bundle_whose_files_are_those_of_its_manifest(bundles: Path) -> None:
    assert {path.name for path in bundles.iterdir()} == {"rpi-zero2w", "jetson-orin-nano-8gb"}
    for folder in bundles.iterdir():
        manifest = submodel_from_bytes((folder / "manifest.json").read_bytes())
        assert {path.name for path in folder.iterdir()} == {*manifest.files, "manifest.json"}
        for name, entry in manifest.files.items():
            data = (folder / name).read_bytes()
            assert (sha256_hex(data), len(data)) == (entry.sha256, entry.size_bytes)


def test_manifest_says_where_the_model_is_from_and_how_good_it_is(
    bundles: Path, inputs: Inputs
) -> None:
    manifest = submodel_from_bytes((bundles / "rpi-zero2w" / "manifest.json").read_bytes())
    digest = sha256_hex(inputs.checkpoint.read_bytes())
    assert manifest.provenance == {"board": "rpi-zero2w", "checkpoint": digest}
    assert manifest.license == "CC0-1.0"
    assert [exit_.exit_depth for exit_ in manifest.exits] == [1, 2, 3]
    assert sum(exit_.early_exits for exit_ in manifest.exits) == pytest.approx(1)
    assert {variant.name for variant in manifest.variants} == {
        "onnx-packed",
        "tflite-int8",
        "tflite-int8-stages",
    }


def test_card_states_input_license_accuracy_and_origin(bundles: Path, inputs: Inputs) -> None:
    card = (bundles / "rpi-zero2w" / "model-card.md").read_text()
    for promise in (
        "float32 [B, 3, 8, 8]",
        "(v / 255 - 0.5) / 0.25",
        "License: CC0-1.0",
        sha256_hex(inputs.checkpoint.read_bytes()),
        "| exit | million MACs |",
    ):
        assert promise in card


def test_a_jetson_gets_static_int8_float_and_a_script_that_picks(bundles: Path) -> None:
    folder = bundles / "jetson-orin-nano-8gb"
    manifest = submodel_from_bytes((folder / "manifest.json").read_bytes())
    names = {variant.name for variant in manifest.variants}
    assert {"tensorrt-qdq", "tensorrt-float32", "tensorrt-qdq-stages"} < names
    assert manifest.provenance["jetpack"] == "6.2"
    assert (folder / "bench-tensorrt.sh").read_text().startswith("#!/bin/sh")


def test_the_same_input_gives_the_same_bytes(
    bundles: Path, inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    made = ["--bits", 3, "--license", "CC0-1.0", "--samples", 20, "--out", tmp_path / "again"]
    code, _, _ = reefleet(*build(inputs, "--device", "rpi-zero2w", *made))
    assert code == 0
    again, before = tmp_path / "again", bundles / "rpi-zero2w"
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in before.iterdir()
    }


def test_the_edge_client_answers_as_torch_does(bundles: Path, inputs: Inputs) -> None:
    from edge_client.inference import EarlyExitModel
    from reefleet.datasets.pack import normalized

    folder = bundles / "rpi-zero2w"
    model = EarlyExitModel.open(folder)
    images = normalized(inputs.images, inputs.contract.preprocessing)
    tensors = unpack_tensors((folder / "weights.rft").read_bytes(), 1 << 20)
    expected = parity.torch_logits(tensors, inputs.contract.spec, 3, images)
    found = np.stack([model.logits(image[None]) for image in images])
    assert np.abs(found - expected).max() <= parity.INT8_TOLERANCE * np.abs(expected).max()


def test_packed_file_holds_b_bits_a_weight_and_the_float_rest(bundles: Path) -> None:
    tensors = unpack_tensors((bundles / "rpi-zero2w" / "weights.rft").read_bytes(), 1 << 20)
    coded = sum(t.codes.size * t.bits for t in tensors.values() if isinstance(t, CodebookTensor))
    rest = sum(4 * t.values.size for t in tensors.values() if isinstance(t, Float32Tensor))
    stored = pack_tensors(tensors, compress=False)
    names = sum(len(name) + 48 for name in tensors)  # the header, which a real model dwarfs
    centers = sum(2**t.bits for t in tensors.values() if isinstance(t, CodebookTensor))
    assert len(stored) <= 1.06 * (coded / 8 + rest) + names + centers


@pytest.mark.parametrize("board", [["--device", "rpi-4b"], []])
def test_a_personal_sub_model_keeps_the_codes_that_its_device_learned(
    board: list[str], bundles: Path, inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    source, out = bundles / "rpi-zero2w", tmp_path / "out"
    data = ["--data", inputs.data]
    code, _, error = reefleet("export", "build", source, *data, *board, "--depth", 2, "--out", out)
    assert code == 0, error
    before = unpack_tensors((source / "weights.rft").read_bytes(), 1 << 20)
    after = unpack_tensors((out / "weights.rft").read_bytes(), 1 << 20)
    assert len(after) < len(before)
    for name, tensor in after.items():
        np.testing.assert_array_equal(tensor.decode(), before[name].decode())
    manifest = submodel_from_bytes((out / "manifest.json").read_bytes())
    assert manifest.provenance["sub_model"] == sha256_hex((source / "manifest.json").read_bytes())


def test_learned_codes_cannot_be_given_other_bits(
    bundles: Path, inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    command = ["export", "build", bundles / "rpi-zero2w", "--data", inputs.data, "--depth", 2]
    code, _, error = reefleet(*command, "--bits", 2, "--out", tmp_path / "out")
    assert code == 78
    assert "3-bit codes that a device has learned" in error
    assert list(tmp_path.iterdir()) == []


def test_a_version_of_a_fleets_model_builds_as_its_checkpoint_does(
    inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    version = tmp_path / "version.rft"
    version.write_bytes(pack_tensors({n: Float32Tensor(v) for n, v in inputs.weights.items()}))
    digests = []
    for model in (version, inputs.checkpoint):
        out = tmp_path / model.stem
        made = ["--depth", 1, "--bits", 2, "--json", "--out", out]
        code, text, _ = reefleet("export", "build", model, *inputs.arguments, *made)
        assert code == 0
        result = json.loads(text)
        assert result["packed_bytes"] == len((out / "weights.rft").read_bytes())
        (found,) = result["parity"]["onnx-packed"]
        assert set(found) == {"exit_depth", "relative_error", "agreement", "accuracy_change"}
        assert abs(found["accuracy_change"]) <= 1 - found["agreement"] + 1e-9
        digests.append(sha256_hex((out / "weights.rft").read_bytes()))
    assert digests[0] == digests[1]


def test_all_devices_ends_with_a_table_and_names_what_got_no_bundle(
    inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    command = build(inputs, "--all-devices", "--depth", 1, "--bits", 4, "--format", "tflite")
    code, table, error = reefleet(*command, "--samples", 4, "--out", tmp_path / "out")
    rows = table.splitlines()
    assert rows[0].split()[:3] == ["board", "depth", "bits"]
    assert {row.split()[0] for row in rows[1:]} >= {"rpi-4b", "jetson-nano-4gb"}
    assert code == 70
    assert "2 of 16 boards got no bundle" in error
    assert "Python 3.6" in next(row for row in rows if row.startswith("jetson-nano-4gb"))
    assert not (tmp_path / "out" / "jetson-nano-4gb").exists()
    assert (tmp_path / "out" / "rpi-4b" / "manifest.json").exists()


def test_a_build_outside_tolerance_names_file_exit_and_figure_and_leaves_nothing(
    inputs: Inputs, tmp_path: Path, reefleet: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "INT8_TOLERANCE", 1e-9)
    command = build(inputs, "--depth", 2, "--bits", 4, "--out", tmp_path / "deep" / "out")
    code, _, error = reefleet(*command)
    assert code == 70
    assert "stage-0.onnx: exit 1 differs from torch by" in error
    assert list(tmp_path.rglob("*")) == []


def test_the_edge_client_answers_from_tflite_stages_too(
    bundles: Path, inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    from PIL import Image

    Image.fromarray(inputs.images[0].transpose(1, 2, 0)).save(tmp_path / "image.png")
    command = ["edge", "infer", bundles / "rpi-zero2w", tmp_path / "image.png", "--json"]
    answers = []
    for engine in ("onnxruntime", "litert"):
        code, text, error = reefleet(*command, "--engine", engine)
        assert (code, error) == (0, "")
        answers.append(json.loads(text))
    assert answers[0]["label"] == answers[1]["label"]
    assert answers[0]["exit_depth"] == answers[1]["exit_depth"]


def test_a_bundle_without_tflite_stages_is_named(
    bundles: Path, inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    from PIL import Image

    Image.fromarray(inputs.images[0].transpose(1, 2, 0)).save(tmp_path / "image.png")
    board = bundles / "jetson-orin-nano-8gb"
    found, _, error = reefleet("edge", "infer", board, tmp_path / "image.png", "--engine", "litert")
    assert found == 65
    assert "holds no TFLite stages; build it with --format tflite" in error
