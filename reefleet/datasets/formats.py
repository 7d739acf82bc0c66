"""Readers of public data formats: each gives train samples and, where the set has one, a test part.

Images become uint8 [N, C, H, W], labels int64 from 0, clients (writer, speaker) int64 from 0.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, MissingFile, RuntimeUnavailable

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

IDX_IMAGES, IDX_LABELS = 0x803, 0x801  # magic numbers of MNIST's two kinds of file
CIFAR_SIDE = 32
LEAF_SIDE = 28
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm"})


@dataclass(frozen=True, slots=True)
class Samples:
    """Images uint8 [N, C, H, W], labels int64 [N], and whose each is where the set says so."""

    images: Images
    labels: Labels
    clients: Labels | None = None

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.labels)


Pair = tuple[Samples, Samples | None]


def read_pack(path: Path) -> Pair:
    """An .npz: `[train_]images|features`, `[train_]label[s]`, maybe `[train_]client`; `test_...`.

    Images [N, H, W], [N, H, W, C] or [N, C, H, W]; channels are the axis of extent 1 or 3.
    """
    with _reading(path), path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            msg = f"{path} is a single array; an .npz archive is needed"
            raise DamagedFile(msg)
        prefixed = any(name.startswith("train_") for name in archive)
        train = _pack_part(archive, "train_" if prefixed else "", path)
        test = "test_images" in archive or "test_features" in archive
        return train, _pack_part(archive, "test_", path) if test else None


def read_idx(folder: Path) -> Pair:
    """MNIST's four idx files in `folder`, plain or .gz: train-images-idx3-ubyte and so on."""
    return _idx_part(folder, "train"), _idx_part(folder, "t10k")


def read_cifar(folder: Path) -> Pair:
    """CIFAR-10 (data_batch_*.bin, test_batch.bin) or CIFAR-100 (train.bin, test.bin) binaries."""
    batches = sorted(folder.glob("data_batch_*.bin"))
    if batches:
        return _cifar_part(batches, 1), _cifar_part([folder / "test_batch.bin"], 1)
    return _cifar_part([folder / "train.bin"], 2), _cifar_part([folder / "test.bin"], 2)


def read_leaf(folder: Path) -> Pair:
    """LEAF's FEMNIST: JSON files under train/ and maybe test/, one user a writer."""
    names: dict[str, int] = {}
    train = _leaf_part(folder / "train", names)
    test = folder / "test"
    return train, _leaf_part(test, names) if test.is_dir() else None


def read_folder(folder: Path) -> Pair:
    """Image files as CLASS/NAME, or train/CLASS/NAME and test/CLASS/NAME; one size, one depth."""
    train = folder / "train"
    if not train.is_dir():
        return _folder_part(folder, _classes(folder)), None
    classes = _classes(train)
    test = folder / "test"
    return _folder_part(train, classes), _folder_part(test, classes) if test.is_dir() else None


def _pack_part(archive: Mapping[str, NDArray[Any]], prefix: str, path: Path) -> Samples:
    def named(*names: str) -> NDArray[Any] | None:
        return next((archive[prefix + n] for n in names if prefix + n in archive), None)

    images, labels = named("images", "features"), named("labels", "label")
    if images is None or labels is None:
        msg = f"{path} has no {prefix}images with {prefix}labels"
        raise DamagedFile(msg)
    if images.dtype != np.uint8 or images.ndim not in {3, 4} or labels.shape != images.shape[:1]:
        msg = f"{prefix}images in {path} must be uint8 with one label each"
        raise DamagedFile(msg)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in {1, 3}:
        images = images.transpose(0, 3, 1, 2)
    clients = named("client", "clients")
    return Samples(
        np.ascontiguousarray(images),
        labels.astype(np.int64),
        None if clients is None else clients.astype(np.int64),
    )


def _idx_part(folder: Path, name: str) -> Samples:
    images = _idx_array(folder / f"{name}-images-idx3-ubyte", IDX_IMAGES)
    labels = _idx_array(folder / f"{name}-labels-idx1-ubyte", IDX_LABELS)
    if len(images) != len(labels):
        msg = f"{folder} has {len(images)} {name} images and {len(labels)} labels"
        raise DamagedFile(msg)
    return Samples(images[:, None], labels.astype(np.int64))


def _idx_array(path: Path, magic: int) -> Images:
    packed = path.with_name(path.name + ".gz")
    with _reading(path):
        data = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        axes = magic & 0xFF
        header = np.frombuffer(data, ">i4", 1 + axes)
        shape = tuple(int(extent) for extent in header[1:])
        if header[0] != magic or len(data) != 4 * (1 + axes) + int(np.prod(shape)):
            msg = f"{path} is not an idx file of the right kind and length"
            raise DamagedFile(msg)
        return np.frombuffer(data, np.uint8, offset=4 * (1 + axes)).reshape(shape)


def _cifar_part(paths: list[Path], label_bytes: int) -> Samples:
    record = label_bytes + 3 * CIFAR_SIDE**2
    rows = []
    for path in paths:
        with _reading(path):
            data = np.frombuffer(path.read_bytes(), np.uint8)
        if not len(data) or len(data) % record:
            msg = f"{path} has {len(data)} bytes, not a multiple of a CIFAR record's {record}"
            raise DamagedFile(msg)
        rows.append(data.reshape(-1, record))
    table = np.concatenate(rows)
    images = table[:, label_bytes:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
    # CIFAR-100 has the coarse label first and the fine one second.
    return Samples(np.ascontiguousarray(images), table[:, label_bytes - 1].astype(np.int64))


def _leaf_part(folder: Path, names: dict[str, int]) -> Samples:
    pixels, labels, clients = [], [], []
    files = sorted(folder.glob("*.json"))
    if not files:
        msg = f"there are no LEAF .json files in {folder}"
        raise MissingFile(msg)
    for path in files:
        with _reading(path):
            found = json.loads(path.read_bytes())
            for user in found["users"]:
                data = found["user_data"][user]
                number = names.setdefault(str(user), len(names))
                pixels.append(np.asarray(data["x"], np.float32).reshape(-1, LEAF_SIDE, LEAF_SIDE))
                labels.append(np.asarray(data["y"], np.int64))
                clients.append(np.full(len(labels[-1]), number, np.int64))
    images = np.rint(np.concatenate(pixels).clip(0, 1) * 255).astype(np.uint8)[:, None]
    return Samples(images, np.concatenate(labels), np.concatenate(clients))


def _classes(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        msg = f"the image folder {folder} does not exist"
        raise MissingFile(msg)
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return {name: index for index, name in enumerate(names)}


def _folder_part(folder: Path, classes: Mapping[str, int]) -> Samples:
    load = _image_reader()
    images, labels = [], []
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.parent.name in classes:
            with _reading(path):
                images.append(load(path))
            labels.append(classes[path.parent.name])
            if images[-1].shape != images[0].shape:
                msg = f"{path} has shape {images[-1].shape}, the first image {images[0].shape}"
                raise DamagedFile(msg)
    if not images:
        msg = f"there are no images as CLASS/NAME in {folder}"
        raise MissingFile(msg)
    return Samples(np.stack(images), np.array(labels, np.int64))


def _image_reader() -> Callable[[Path], Images]:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        msg = "image folders need pillow; run: pip install 'reefleet[all]'"
        raise RuntimeUnavailable(msg) from error

    def load(path: Path) -> Images:
        with Image.open(path) as image:
            grey = image.mode in {"1", "L", "I", "I;16", "F"}
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
        return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    return load


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise MissingFile(msg) from error
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        msg = f"{path} is damaged: {error}"
        raise DamagedFile(msg) from error
    except (zipfile.BadZipFile, zlib.error) as error:
        msg = f"{path} is damaged: {error}"
        raise DamagedFile(msg) from error
