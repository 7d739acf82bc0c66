"""A model contract that follows from the data: for who has images and no wish about geometry."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from reefleet.datasets.pack import load_parts
from reefleet.errors import InputError
from reefleet.model import ModelContract, ModelSpec, Preprocessing

PATCHES = 49  # about so many: enough to see shapes, few enough for a small board
WIDTH, HEADS, DEPTH, EXITS = 64, 4, 6, (1, 2, 4, 6)
PART = "train"


def contract_for(pack: Path) -> ModelContract:
    """A small ViT with exits at 1, 2, 4 and 6 blocks for the images of `pack`.

    Classes are 0 to the largest label. Raises InputError for images that are not square, for a
    side that no patch divides well, or for fewer than two classes; MissingFile or DamagedFile.
    """
    (part,) = load_parts(pack, [PART])
    _, channels, height, width = part.images.shape
    if height != width:
        msg = f"the images of {pack} are {height} x {width}; give a contract for such a model"
        raise InputError(msg)
    classes = int(part.labels.max(initial=-1)) + 1
    if classes < 2 or int(part.labels.min()) < 0:
        msg = f"the labels of {pack} name {classes} classes; at least two are needed"
        raise InputError(msg)
    pixels = part.images.astype(np.float32) / 255
    spec = ModelSpec(
        image_size=height,
        patch_size=_patch_size(height, pack),
        channels=channels,
        width=WIDTH,
        heads=HEADS,
        depth=DEPTH,
        classes=classes,
        exits=EXITS,
    )
    deviation = max(float(pixels.std()), 1e-3)
    told = Preprocessing(height, channels, round(float(pixels.mean()), 4), round(deviation, 4))
    return ModelContract(spec, told, tuple(str(label) for label in range(classes)))


def _patch_size(side: int, pack: Path) -> int:
    choices = [size for size in range(2, side // 2 + 1) if side % size == 0]
    if not choices:
        msg = f"no patch divides the images of {pack}, {side} pixels a side; give a contract"
        raise InputError(msg)
    return min(choices, key=lambda size: abs(math.log((side // size) ** 2 / PATCHES)))
