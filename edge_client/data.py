"""The device's own labelled images: read once, kept as bytes, normalised batch by batch."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, DataTooSmall, InputError, MissingFile
from reefleet.model import ModelSpec, Preprocessing

PARTS = ("train", "validation", "test")
IMAGE_AXES = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Images uint8 [N, C, H, W] and their labels int64 [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class DeviceData:
    """What a device holds: a part to learn from, one to choose thresholds on, one to judge by."""

    train: Part
    validation: Part
    test: Part

    def require(self, spec: ModelSpec) -> None:
        """Refuse data that the model cannot read: InputError or DataTooSmall, naming the part."""
        shape = (spec.channels, spec.image_size, spec.image_size)
        for name in PARTS:
            part: Part = getattr(self, name)
            if not len(part):
                msg = f"the device's data have no {name} samples; at least one is needed"
                raise DataTooSmall(msg)
            if part.images.shape[1:] != shape:
                msg = f"{name}_images have shape {part.images.shape[1:]}, the model reads {shape}"
                raise InputError(msg)
            low, high = int(part.labels.min()), int(part.labels.max())
            if low < 0 or high >= spec.classes:
                msg = (
                    f"{name}_labels run from {low} to {high}; the model has {spec.classes} classes"
                )
                raise InputError(msg)


def load(path: Path) -> DeviceData:
    """Read an .npz with `<part>_images` and `<part>_labels` for train, validation and test.

    Raises MissingFile, or DamagedFile naming the array that is absent or of the wrong kind.
    """
    try:
        # Opened here, because numpy leaves its own handle open where the archive is damaged.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                msg = f"{path} is a single array; an .npz archive is needed"
                raise DamagedFile(msg)
            return DeviceData(*(_part(archive, name, path) for name in PARTS))
    except FileNotFoundError as error:
        msg = f"the data file {path} does not exist"
        raise MissingFile(msg) from error
    except PermissionError as error:
        msg = f"the data file {path} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"the data file {path} is damaged: {error}"
        raise DamagedFile(msg) from error


def normalize(
    images: NDArray[np.uint8], preprocessing: Preprocessing, out: NDArray[np.float32]
) -> None:
    """Write ((v / 255) - mean) / std of `images` into `out` of the same shape, in float32."""
    out[...] = images
    out /= np.float32(255)
    out -= np.float32(preprocessing.mean)
    out /= np.float32(preprocessing.std)


def shuffled(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the indices 0..count-1 in a fresh order, in runs of `size`; the last may be short."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def _part(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Part:
    for key in (f"{name}_images", f"{name}_labels"):
        if key not in archive:
            msg = f"the data file {path} has no array {key!r}"
            raise DamagedFile(msg)
    images, labels = archive[f"{name}_images"], archive[f"{name}_labels"]
    if images.dtype != np.uint8 or images.ndim != IMAGE_AXES:
        msg = f"{name}_images in {path} must be uint8 [N, C, H, W], found {images.dtype}"
        raise DamagedFile(msg)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        msg = f"{name}_labels in {path} must be {len(images)} whole numbers, one an image"
        raise DamagedFile(msg)
    return Part(np.ascontiguousarray(images), labels.astype(np.int64))
