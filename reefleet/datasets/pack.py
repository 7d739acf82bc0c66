"""A data pack: labelled images in one .npz, in named parts, kept as bytes until they are used."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, InputError, MissingFile
from reefleet.model import ModelSpec, Preprocessing

IMAGE_AXES = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Images uint8 [N, C, H, W] and their labels int64 [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.labels)

    def require(self, spec: ModelSpec, name: str) -> None:
        """Raise InputError, naming the part, where the model cannot read these samples."""
        if self.images.shape[1:] != spec.image_shape:
            found = self.images.shape[1:]
            msg = f"{name}_images have shape {found}, the model reads {spec.image_shape}"
            raise InputError(msg)
        if not len(self):
            return
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= spec.classes:
            msg = f"{name}_labels run from {low} to {high}; the model has {spec.classes} classes"
            raise InputError(msg)


def load_parts(path: Path, names: Sequence[str]) -> list[Part]:
    """Read `<name>_images` and `<name>_labels` of each part from an .npz.

    Raises MissingFile, or DamagedFile naming the array that is absent or of the wrong kind.
    """
    try:
        # Opened here, because numpy leaves its own handle open where the archive is damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                msg = f"{path} is a single array; an .npz archive is needed"
                raise DamagedFile(msg)
            return [_part(archive, name, path) for name in names]
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


def normalized(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """`images` as the model reads them, in a new float32 array of the same shape."""
    out = np.empty(images.shape, np.float32)
    normalize(images, preprocessing, out)
    return out


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
