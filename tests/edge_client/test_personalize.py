from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_client.bundle import obtain
from edge_client.federate import federate
from edge_client.inference import EarlyExitModel
from edge_client.personalize import personalize
from edge_client.task import PERSONALIZE
from reefleet.datasets.pack import normalize
from reefleet.errors import (
    ChecksumMismatch,
    InputError,
    MissingFile,
    TensorMismatch,
    TruncatedPayload,
    UnsupportedVersion,
    WireError,
)
from reefleet.wire.codebook import Grid
from reefleet.wire.tensors import CodebookTensor, unpack_tensors


def personalized(kit: SimpleNamespace, state: Path, models: int = 1) -> SimpleNamespace:
    """A device that has done its last task: client, coordinator and the sub-model's folder."""
    coordinator, task = kit.a_coordinator(replace(kit.PLAN, models=models))
    client = kit.a_client(state, coordinator, kit.device_data(train=60))
    if models == 2:
        federate(client, task)
    last = replace(task, kind=PERSONALIZE, lease="last", round=4, base_version=3)
    personalize(client, last)
    return SimpleNamespace(
        client=client, coordinator=coordinator, task=last, folder=state / "submodel"
    )


@pytest.mark.parametrize("models", [1, 2])
def test_the_report_says_what_was_measured(
    kit: SimpleNamespace, tmp_path: Path, models: int
) -> None:
    device = personalized(kit, tmp_path, models)
    ((lease, metrics, early_exit),) = device.coordinator.reports
    assert lease == "last"
    assert metrics.held_out_samples == 24
    assert len(metrics.shared_accuracy) == len(metrics.personal_accuracy) == 2
    assert metrics.personal_accuracy[-1] > metrics.shared_accuracy[-1]
    assert early_exit.full_depth_accuracy == metrics.personal_accuracy[-1]
    assert sum(early_exit.exit_share) == pytest.approx(1.0)
    depths = np.dot(early_exit.exit_share, (1, 2))
    assert early_exit.mean_exit_depth == pytest.approx(depths)
    assert early_exit.thresholds[-1] == 0.0
    assert early_exit.p50_ms > 0
    assert early_exit.full_depth_p50_ms > 0
    assert early_exit.packed_bytes == (device.folder / "weights.rft").stat().st_size


def test_quantized_weights_lie_on_the_int8_grid_with_the_plans_bits(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    device = personalized(kit, tmp_path)
    tensors = unpack_tensors((device.folder / "weights.rft").read_bytes(), 1 << 20)
    coded = tensors[kit.CODED]
    assert isinstance(coded, CodebookTensor)
    assert coded.bits == kit.PLAN.bits
    assert isinstance(coded.codebook, Grid)
    assert set(tensors) == set(kit.weights())


def test_the_same_lease_gives_the_same_submodel(kit: SimpleNamespace, tmp_path: Path) -> None:
    device = personalized(kit, tmp_path, models=2)
    before = (device.folder / "weights.rft").read_bytes()
    thresholds = EarlyExitModel.open(device.folder).thresholds
    shutil.rmtree(device.folder)
    personalize(device.client, device.task)
    assert (device.folder / "weights.rft").read_bytes() == before
    assert EarlyExitModel.open(device.folder).thresholds == thresholds


def test_the_submodel_does_not_depend_on_the_personal_model_of_the_rounds(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    device = personalized(kit, tmp_path, models=2)
    before = (device.folder / "weights.rft").read_bytes()
    shutil.rmtree(device.client.personal.folder)
    personalize(device.client, device.task)
    assert (device.folder / "weights.rft").read_bytes() == before


def test_a_new_submodel_replaces_the_old_one(kit: SimpleNamespace, tmp_path: Path) -> None:
    device = personalized(kit, tmp_path)
    personalize(device.client, replace(device.task, base_version=9))
    assert EarlyExitModel.open(device.folder).manifest.provenance["base_version"] == "9"
    assert not (tmp_path / "submodel.previous").exists()


def an_image(kit: SimpleNamespace, index: int = 0) -> np.ndarray:
    image = np.empty((1, 1, 4, 4), np.float32)
    normalize(kit.device_data(train=60).test.images[index : index + 1], kit.PRE, image)
    return image


def test_stages_agree_with_the_batch_graph(kit: SimpleNamespace, tmp_path: Path) -> None:
    device = personalized(kit, tmp_path)
    model = EarlyExitModel.open(device.folder)
    tensors = unpack_tensors((device.folder / "weights.rft").read_bytes(), 1 << 20)
    bundle = obtain(device.client.supply, device.task)
    part = device.client.data.test
    weights = {name: tensor.decode() for name, tensor in tensors.items()}
    batched = bundle.predictor(1).logits(weights, part, kit.PRE)
    for index in range(3):
        found = model.logits(an_image(kit, index))
        np.testing.assert_allclose(found, batched[index], atol=1e-5)


def test_an_answer_leaves_at_the_first_confident_exit(kit: SimpleNamespace, tmp_path: Path) -> None:
    model = EarlyExitModel.open(personalized(kit, tmp_path).folder)
    image = an_image(kit)
    model.thresholds = (0.0, 0.0)
    early = model.answer(image)
    assert (early.exit_depth, model.answer(image, full_depth=True).exit_depth) == (1, 2)
    model.thresholds = (2.0, 0.0)
    assert model.answer(image).exit_depth == 2
    assert 1 / 3 <= early.confidence <= 1
    assert early.label == ("a", "b", "c")[early.class_index]


def test_an_image_of_another_shape_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    model = EarlyExitModel.open(personalized(kit, tmp_path).folder)
    with pytest.raises(InputError, match="the model reads"):
        model.answer(np.zeros((1, 1, 5, 5), np.float32))


@pytest.mark.parametrize("name", ["stage-0.onnx", "stage-1.onnx", "weights.rft"])
def test_an_altered_file_is_refused_before_it_is_loaded(
    kit: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    folder = personalized(kit, tmp_path).folder
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ChecksumMismatch, match=name):
        EarlyExitModel.open(folder)
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(TruncatedPayload, match=name):
        EarlyExitModel.open(folder)
    (folder / name).write_bytes(bytes(data) + b"x")
    with pytest.raises(ChecksumMismatch, match=name):
        EarlyExitModel.open(folder)
    (folder / name).unlink()
    with pytest.raises(MissingFile, match=name):
        EarlyExitModel.open(folder)


def rewritten(folder: Path, change: object) -> Path:
    values = json.loads((folder / "manifest.json").read_text())
    change(values)  # type: ignore[operator]
    (folder / "manifest.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda v: v.update(format=2), UnsupportedVersion),
        (lambda v: v["stages"][0]["initializers"][0].update(source="secret"), TensorMismatch),
        (lambda v: v["stages"][0]["initializers"][0].update(form="hexagonal"), WireError),
        (lambda v: v["stages"][0]["initializers"][0].update(form="scale"), TensorMismatch),
        (lambda v: v["stages"][0]["initializers"].pop(), WireError),
        (lambda v: v.update(weights="../weights.rft"), WireError),
        (lambda v: v["model"].update(width=16), WireError),
        (lambda v: v.update(labels=["a"]), WireError),
        (lambda v: v.update(stages=v["stages"][::-1]), WireError),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(
    kit: SimpleNamespace, tmp_path: Path, change: object, error: type[Exception]
) -> None:
    folder = rewritten(personalized(kit, tmp_path).folder, change)
    with pytest.raises(error):
        EarlyExitModel.open(folder).answer(np.zeros((1, 1, 4, 4), np.float32))


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="no sub-model bundle"):
        EarlyExitModel.open(tmp_path)
