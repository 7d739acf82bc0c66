from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")

from reefleet.demo.packs import LEAST_SAMPLES, PUBLIC_SAMPLES, write_packs, write_sample_images

DEVICES = ("small", "middle", "large")
PARTS = ("train", "validation", "test")


def images(path: Path) -> list[bytes]:
    with np.load(path, allow_pickle=False) as arrays:
        return [image.tobytes() for name in arrays if "images" in name for image in arrays[name]]


def test_every_device_pack_has_three_parts_of_whole_images(tmp_path: Path) -> None:
    packs = write_packs(tmp_path, DEVICES, seed=0)
    for path in packs.devices.values():
        with np.load(path, allow_pickle=False) as arrays:
            for part in PARTS:
                pixels, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
                assert pixels.shape == (len(labels), 1, 8, 8)
                assert pixels.dtype == np.uint8
                assert len(labels) > 0


def test_no_image_is_in_two_packs_and_none_is_lost(tmp_path: Path) -> None:
    packs = write_packs(tmp_path, DEVICES, seed=0)
    held = [image for path in packs.devices.values() for image in images(path)]
    public = images(packs.public)
    assert len(public) == PUBLIC_SAMPLES
    assert len(public) + len(held) == 1797
    assert min(len(images(path)) for path in packs.devices.values()) >= LEAST_SAMPLES


def test_the_same_seed_gives_the_same_packs(tmp_path: Path) -> None:
    first = write_packs(tmp_path / "a", DEVICES, seed=5)
    second = write_packs(tmp_path / "b", DEVICES, seed=5)
    other = write_packs(tmp_path / "c", DEVICES, seed=6)
    assert images(first.devices["small"]) == images(second.devices["small"])
    assert images(first.devices["small"]) != images(other.devices["small"])


def test_sample_images_are_test_images_of_every_digit(tmp_path: Path) -> None:
    packs = write_packs(tmp_path, DEVICES, seed=0)
    paths = write_sample_images(tmp_path / "digits", packs)
    assert [path.name for path in paths] == [f"{digit}.png" for digit in range(10)]
    tests: set[bytes] = set()
    for pack in packs.devices.values():
        with np.load(pack, allow_pickle=False) as arrays:
            tests |= {image.tobytes() for image in arrays["test_images"]}
    assert all(np.asarray(Image.open(path)).tobytes() in tests for path in paths)
