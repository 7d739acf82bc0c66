from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reefleet.datasets.contract import contract_for
from reefleet.errors import InputError


def a_pack(folder: Path, shape: tuple[int, ...], classes: int) -> Path:
    images = np.full((12, *shape), 51, np.uint8)
    images[::2] = 204
    path = folder / "public.npz"
    np.savez(path, train_images=images, train_labels=np.arange(12) % classes)
    return path


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (28, 4), (32, 4), (96, 12), (224, 32)])
def test_the_model_reads_the_images_in_about_fifty_patches(
    tmp_path: Path, side: int, patch: int
) -> None:
    made = contract_for(a_pack(tmp_path, (3, side, side), 4))
    assert (made.spec.image_size, made.spec.patch_size, made.spec.channels) == (side, patch, 3)
    assert made.labels == ("0", "1", "2", "3")


def test_the_input_is_normalized_by_the_packs_own_pixels(tmp_path: Path) -> None:
    made = contract_for(a_pack(tmp_path, (1, 8, 8), 2)).preprocessing
    assert (made.mean, made.std) == (pytest.approx(0.5), pytest.approx(0.3))


@pytest.mark.parametrize(
    ("shape", "classes", "said"),
    [((1, 8, 6), 2, "8 x 6"), ((1, 7, 7), 2, "no patch"), ((1, 8, 8), 1, "at least two")],
)
def test_what_no_small_vit_can_read_is_refused(
    tmp_path: Path, shape: tuple[int, ...], classes: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        contract_for(a_pack(tmp_path, shape, classes))
