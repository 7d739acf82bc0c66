from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest

from edge_client.data import PARTS, DeviceData, StoredData, load
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


Reader = Callable[[Path], object]


def stored(path: Path) -> StoredData:
    return StoredData(path, path.with_name("data.sound"))


READERS: list[Reader] = [load, stored]


def test_an_archive_is_read_back(kit: SimpleNamespace, tmp_path: Path) -> None:
    data = kit.device_data()
    np.savez_compressed(tmp_path / "d.npz", **arrays(data))
    found = load(tmp_path / "d.npz")
    np.testing.assert_array_equal(found.test.images, data.test.images)
    assert found.train.labels.dtype == np.int64
    found.require(kit.SPEC)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_data_are_counted_at_once_and_read_when_they_are_used(
    kit: SimpleNamespace, tmp_path: Path, save: Callable[..., None]
) -> None:
    data = kit.device_data()
    path = tmp_path / "d.npz"
    save(path, **arrays(data))
    found = stored(path)
    assert found.train_samples == len(data.train)
    np.testing.assert_array_equal(found.train.images, data.train.images)
    np.testing.assert_array_equal(found.validation.labels, data.validation.labels)
    np.testing.assert_array_equal(found.test.images, data.test.images)
    found.require(kit.SPEC)


def test_a_changed_byte_is_found_before_any_work(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, **arrays(kit.device_data()))
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 400] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(DamagedFile, match=r"d\.npz"):
            stored(path)


def test_a_sound_file_is_looked_through_once_until_it_changes(
    kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looked = tmp_path / "d.npz", []
    np.savez(path, **arrays(kit.device_data()))
    whole = ZipFile.testzip
    monkeypatch.setattr(ZipFile, "testzip", lambda self: looked.append(1) or whole(self))
    stored(path)
    assert stored(path).train_samples == len(kit.device_data().train)
    assert len(looked) == 1
    np.savez(path, **arrays(kit.device_data(seed=1)))
    stored(path)
    assert len(looked) == 2


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_named(tmp_path: Path, read: Reader) -> None:
    with pytest.raises(MissingFile, match=r"gone\.npz"):
        read(tmp_path / "gone.npz")


@pytest.mark.parametrize("read", READERS)
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
    kit: SimpleNamespace,
    tmp_path: Path,
    name: str,
    value: np.ndarray | None,
    message: str,
    read: Reader,
) -> None:
    given = {**arrays(kit.device_data()), name: value}
    np.savez(
        tmp_path / "d.npz", **{key: array for key, array in given.items() if array is not None}
    )
    with pytest.raises(DamagedFile, match=message):
        read(tmp_path / "d.npz")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"hello"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes, read: Reader) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DamagedFile):
        read(tmp_path / "d.npz")


@pytest.mark.parametrize("read", READERS)
def test_a_single_array_is_refused(tmp_path: Path, read: Reader) -> None:
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(DamagedFile, match="single array"):
        read(tmp_path / "d.npy")


@pytest.mark.parametrize("read", READERS)
def test_pickled_objects_are_never_loaded(
    kit: SimpleNamespace, tmp_path: Path, read: Reader
) -> None:
    given = {**arrays(kit.device_data()), "train_images": np.array([{}], object)}
    np.savez(tmp_path / "d.npz", **given)
    with pytest.raises(DamagedFile):
        read(tmp_path / "d.npz")


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
