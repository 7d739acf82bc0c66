from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_client.data import PARTS, DeviceData, load
from reefleet.datasets.order import shuffled
from reefleet.datasets.pack import Part, normalize
from reefleet.errors import DamagedFile, DataTooSmall, InputError, MissingFile
from reefleet.model import Preprocessing


def arrays(data: DeviceData) -> dict[str, np.ndarray]:
    parts = {name: getattr(data, name) for name in PARTS}
    return {
        **{f"{name}_images": part.images for name, part in parts.items()},
        **{f"{name}_labels": part.labels for name, part in parts.items()},
    }


def test_an_archive_is_read_back(kit: SimpleNamespace, tmp_path: Path) -> None:
    data = kit.device_data()
    np.savez_compressed(tmp_path / "d.npz", **arrays(data))
    found = load(tmp_path / "d.npz")
    np.testing.assert_array_equal(found.test.images, data.test.images)
    assert found.train.labels.dtype == np.int64
    found.require(kit.SPEC)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"gone\.npz"):
        load(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train_labels", None, "no array 'train_labels'"),
        ("test_images", np.zeros((24, 1, 4, 4), np.float32), "must be uint8"),
        ("test_images", np.zeros((24, 4, 4), np.uint8), "must be uint8"),
        ("validation_labels", np.zeros(3, np.int64), "must be 24"),
        ("validation_labels", np.zeros(24, np.float32), "whole numbers"),
    ],
)
def test_an_odd_array_is_named(
    kit: SimpleNamespace, tmp_path: Path, name: str, value: np.ndarray | None, message: str
) -> None:
    given = {**arrays(kit.device_data()), name: value}
    np.savez(
        tmp_path / "d.npz", **{key: array for key, array in given.items() if array is not None}
    )
    with pytest.raises(DamagedFile, match=message):
        load(tmp_path / "d.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"hello"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DamagedFile):
        load(tmp_path / "d.npz")


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(DamagedFile, match="single array"):
        load(tmp_path / "d.npy")


def test_pickled_objects_are_never_loaded(kit: SimpleNamespace, tmp_path: Path) -> None:
    given = {**arrays(kit.device_data()), "train_images": np.array([{}], object)}
    np.savez(tmp_path / "d.npz", **given)
    with pytest.raises(DamagedFile):
        load(tmp_path / "d.npz")


def test_data_the_model_cannot_read_is_refused(kit: SimpleNamespace) -> None:
    data = kit.device_data()
    bad_label = Part(data.test.images, data.test.labels + 3)
    wide = Part(np.zeros((2, 1, 5, 5), np.uint8), np.zeros(2, np.int64))
    empty = Part(data.test.images[:0], data.test.labels[:0])
    with pytest.raises(InputError, match="3 classes"):
        DeviceData(data.train, data.validation, bad_label).require(kit.SPEC)
    with pytest.raises(InputError, match="the model reads"):
        DeviceData(wide, data.validation, data.test).require(kit.SPEC)
    with pytest.raises(DataTooSmall, match="validation"):
        DeviceData(data.train, empty, data.test).require(kit.SPEC)


def test_normalizing_is_value_over_255_minus_mean_over_std() -> None:
    images = np.array([[[[0, 51], [102, 255]]]], np.uint8)
    out = np.empty(images.shape, np.float32)
    normalize(images, Preprocessing(2, 1, 0.2, 0.5), out)
    np.testing.assert_allclose(out.ravel(), [-0.4, 0.0, 0.4, 1.6], atol=1e-6)


def test_every_sample_is_seen_once_an_epoch() -> None:
    batches = list(shuffled(10, 4, np.random.default_rng(0)))
    assert [len(rows) for rows in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches)) == list(range(10))
