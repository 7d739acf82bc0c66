"""The demo's data: a public pack, one pack for each device, and a few digits to try.

Real handwriting: the digits that scikit-learn carries, split over the devices with a Dirichlet law,
so that each device sees its own mix of classes. Every device keeps a held-out part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.datasets.digits import digits
from reefleet.datasets.partition import dirichlet_split

PUBLIC_SAMPLES = 300
ALPHA = 0.5  # clear skew: every device sees a few digits often and some hardly ever
LEAST_SAMPLES = 160  # per device, so that its held-out parts still say something
VALIDATION_SHARE = 0.2
TEST_SHARE = 0.25

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Packs:
    """Where the packs lie: the coordinator's, and each device's by its name."""

    public: Path
    devices: Mapping[str, Path]


def write_packs(folder: Path, devices: Sequence[str], seed: int) -> Packs:
    """Write public.npz and one DEVICE.npz each into `folder`; same seed, same packs.

    The public pack is for training alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images, labels = digits()  # [N, 1, 8, 8] uint8, [N] int64
    order = rng.permutation(len(labels))
    public, private = order[:PUBLIC_SAMPLES], order[PUBLIC_SAMPLES:]
    packs = Packs(folder / "public.npz", {name: folder / f"{name}.npz" for name in devices})
    np.savez(packs.public, train_images=images[public], train_labels=labels[public])
    shares = dirichlet_split(labels[private], len(devices), ALPHA, rng, LEAST_SAMPLES)
    for name, share in zip(devices, shares, strict=True):
        chosen = private[rng.permutation(share)]
        _write_pack(packs.devices[name], images[chosen], labels[chosen])
    return packs


def write_sample_images(folder: Path, packs: Packs) -> list[Path]:
    """Write one test image of each digit as `DIGIT.png`, from the first device that holds it."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, Images] = {}
    for pack in packs.devices.values():
        with np.load(pack, allow_pickle=False) as arrays:
            for image, label in zip(arrays["test_images"], arrays["test_labels"], strict=True):
                found.setdefault(int(label), image[0])
    paths = []
    for label, pixels in sorted(found.items()):
        paths.append(folder / f"{label}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def _write_pack(path: Path, images: Images, labels: Labels) -> None:
    """Cut shuffled samples into train, validation and test, and write them."""
    test = int(len(labels) * TEST_SHARE)
    validation = test + int(len(labels) * VALIDATION_SHARE)
    np.savez(
        path,
        train_images=images[validation:],
        train_labels=labels[validation:],
        validation_images=images[test:validation],
        validation_labels=labels[test:validation],
        test_images=images[:test],
        test_labels=labels[:test],
    )
