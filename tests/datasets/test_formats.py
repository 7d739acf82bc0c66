import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from reefleet.datasets.corpus import open_corpus, resized
from reefleet.errors import ConfigError, DamagedFile, MissingFile


def write_idx(path: Path, array: np.ndarray) -> None:
    header = np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes()
    path.write_bytes(header + array.tobytes())


def test_idx_files_plain_or_packed_are_read(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for name in ("train", "t10k"):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", np.array([1, 0], np.uint8))
    plain = tmp_path / "train-images-idx3-ubyte"
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    corpus = open_corpus("idx", tmp_path)
    assert np.array_equal(corpus.train.images[:, 0], images)
    assert corpus.test is not None
    assert corpus.test.labels.tolist() == [1, 0]


def test_an_idx_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    write_idx(path, np.zeros((2, 3, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match="train-images"):
        open_corpus("idx", tmp_path)


def test_cifar_100_gives_the_fine_label(tmp_path: Path) -> None:
    record = np.concatenate([[3, 77], np.arange(3072) % 256]).astype(np.uint8)
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(record.tobytes() * 2)
    corpus = open_corpus("cifar", tmp_path)
    assert corpus.train.labels.tolist() == [77, 77]
    assert corpus.train.images.shape == (2, 3, 32, 32)
    assert corpus.train.images[0, 0, 0, :3].tolist() == [0, 1, 2]


def test_cifar_10_joins_its_batches(tmp_path: Path) -> None:
    for index, name in enumerate(("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")):
        (tmp_path / name).write_bytes(bytes([index]) + bytes(3072))
    corpus = open_corpus("cifar", tmp_path)
    assert corpus.train.labels.tolist() == [0, 1]
    assert corpus.test is not None
    assert corpus.test.labels.tolist() == [2]


def test_leaf_keeps_the_writer_of_each_sample(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    data = {
        "users": ["w2", "w1"],
        "user_data": {
            "w1": {"x": [[1.0] * 784], "y": [5]},
            "w2": {"x": [[0.0] * 784, [0.5] * 784], "y": [1, 2]},
        },
    }
    (tmp_path / "train" / "all.json").write_text(json.dumps(data))
    corpus = open_corpus("leaf", tmp_path)
    assert corpus.test is None
    assert corpus.train.labels.tolist() == [1, 2, 5]
    assert corpus.train.clients is not None
    assert corpus.train.clients.tolist() == [0, 0, 1]
    assert corpus.train.images[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_an_image_folder_takes_classes_from_names(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for index, name in enumerate(("cat", "ant")):
        (tmp_path / name).mkdir()
        image.fromarray(np.full((4, 4), index, np.uint8)).save(tmp_path / name / "0.png")
    corpus = open_corpus("folder", tmp_path)
    assert corpus.train.labels.tolist() == [0, 1]
    assert corpus.train.images[:, 0, 0, 0].tolist() == [1, 0]
    assert corpus.classes == 2


def test_a_pack_with_channels_last_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "pack.npz"
    images = np.zeros((2, 5, 5, 3), np.uint8)
    images[..., 2] = 9
    np.savez(path, images=images, label=np.array([0, 1]), client=np.array([4, 4], np.int16))
    train = open_corpus("pack", path).train
    assert train.images.shape == (2, 3, 5, 5)
    assert (train.images[:, 2] == 9).all()
    assert train.clients is not None
    assert train.clients.tolist() == [4, 4]


def test_resizing_takes_the_mean_of_the_covered_area() -> None:
    pytest.importorskip("PIL")
    images = np.array([[[[0, 10], [20, 30]]]], np.uint8)
    assert resized(images, 1).tolist() == [[[[15]]]]


def test_what_is_not_there_or_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"none\.npz"):
        open_corpus("pack", tmp_path / "none.npz")
    with pytest.raises(ConfigError, match="digits"):
        open_corpus("imagenet", tmp_path)
