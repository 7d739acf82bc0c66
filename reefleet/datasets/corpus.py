"""A corpus: one labelled set of images before it is split over clients, and how to open one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.datasets import formats
from reefleet.datasets.digits import digits
from reefleet.datasets.formats import Samples
from reefleet.datasets.speech import read_speech
from reefleet.errors import ConfigError, InputError, RuntimeUnavailable


@dataclass(frozen=True, slots=True)
class Corpus:
    """Samples to share out, and the set's own test samples where it comes with some."""

    train: Samples
    test: Samples | None = None

    @property
    def classes(self) -> int:
        """Number of labels."""
        parts = (self.train, self.test) if self.test else (self.train,)
        return 1 + max(int(part.labels.max()) for part in parts)


def open_corpus(kind: str, path: Path, size: int = 0) -> Corpus:
    """Read a corpus; `size` resizes its images to squares of that side, 0 leaves them.

    Raises ConfigError for an unknown kind, MissingFile or DamagedFile for what lies at `path`.
    """
    if kind not in READERS:
        msg = f"data kind {kind!r} is unknown; it must be one of {', '.join(sorted(READERS))}"
        raise ConfigError(msg)
    train, test = READERS[kind](path)
    corpus = Corpus(train, test)
    if not len(train):
        msg = f"there are no training samples in {path}"
        raise InputError(msg)
    if not size:
        return corpus
    small = Corpus(_resized(train, size))
    return replace(small, test=_resized(test, size)) if test else small


def _digits(_: Path) -> tuple[Samples, Samples | None]:
    return Samples(*digits()), None


READERS: Mapping[str, Callable[[Path], tuple[Samples, Samples | None]]] = {
    "digits": _digits,
    "pack": formats.read_pack,
    "folder": formats.read_folder,
    "idx": formats.read_idx,
    "cifar": formats.read_cifar,
    "leaf": formats.read_leaf,
    "speech": read_speech,
}


def _resized(samples: Samples, size: int) -> Samples:
    return replace(samples, images=resized(samples.images, size))


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images [N, C, H, W] as [N, C, size, size]: mean of the covered area, or bilinear upwards."""
    if images.shape[2:] == (size, size):
        return images
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        msg = "resizing needs pillow; run: pip install 'reefleet[all]'"
        raise RuntimeUnavailable(msg) from error
    filter_ = Image.Resampling.BOX if min(images.shape[2:]) >= size else Image.Resampling.BILINEAR
    planes = images.reshape(-1, *images.shape[2:])
    out = np.empty((len(planes), size, size), np.uint8)
    for index, plane in enumerate(planes):
        out[index] = np.asarray(Image.fromarray(plane).resize((size, size), filter_))
    return out.reshape(*images.shape[:2], size, size)
