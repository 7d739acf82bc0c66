from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_client.image import MAX_PIXELS, read
from reefleet.errors import DamagedFile, MissingFile
from reefleet.model import Preprocessing

GREY = Preprocessing(8, 1, 0.5, 0.25)
RGB = Preprocessing(8, 3, 0.0, 1.0)


def a_png(path: Path, mode: str = "L", side: int = 8, value: object = 51) -> Path:
    Image.new(mode, (side, side), value).save(path)  # type: ignore[arg-type]
    return path


def test_a_grey_image_becomes_the_models_input(tmp_path: Path) -> None:
    values = read(a_png(tmp_path / "a.png"), GREY)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.full((1, 1, 8, 8), (0.2 - 0.5) / 0.25, np.float32))


def test_colors_keep_their_order(tmp_path: Path) -> None:
    values = read(a_png(tmp_path / "a.png", "RGB", value=(255, 0, 51)), RGB)
    np.testing.assert_allclose(values[0, :, 0, 0], [1.0, 0.0, 0.2], atol=1e-6)


def test_another_size_is_resized(tmp_path: Path) -> None:
    assert read(a_png(tmp_path / "a.png", side=31), GREY).shape == (1, 1, 8, 8)


def test_a_color_image_can_be_read_as_grey(tmp_path: Path) -> None:
    assert read(a_png(tmp_path / "a.png", "RGB", value=(9, 9, 9)), GREY).shape == (1, 1, 8, 8)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((8, 8), 51 * 257, np.uint16)).save(path)
    np.testing.assert_allclose(read(path, GREY), (0.2 - 0.5) / 0.25, atol=0.02)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"gone\.png"):
        read(tmp_path / "gone.png", GREY)
    with pytest.raises(MissingFile):
        read(tmp_path, GREY)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"hello")
    with pytest.raises(DamagedFile, match="not an image"):
        read(tmp_path / "a.png", GREY)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_an_image_cut_short_is_refused(tmp_path: Path, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DamagedFile, match=r"a\.png"):
        read(path, GREY)


@pytest.mark.parametrize("seed", range(20))
def test_altered_bytes_never_end_in_another_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = a_png(tmp_path / "a.png", side=64)
    data = bytearray(path.read_bytes())
    for position in rng.integers(0, len(data), 4):
        data[position] = rng.integers(0, 256)
    path.write_bytes(bytes(data))
    with suppress(DamagedFile):
        assert read(path, GREY).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("side", [8193, 60000])
def test_a_small_file_that_claims_a_huge_image_is_not_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert side * side > MAX_PIXELS
    with pytest.raises(DamagedFile, match="pixels"):
        read(path, GREY)


def test_a_wide_input_is_resized_to_height_and_width(tmp_path: Path) -> None:
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 6, 0).repeat(4, 1)).save(tmp_path / "a.png")
    values = read(tmp_path / "a.png", Preprocessing(6, 1, 0.0, 1.0, width=8))
    assert values.shape == (1, 1, 6, 8)
    np.testing.assert_array_equal(values[0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1])
