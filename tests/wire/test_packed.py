"""Packed tensors read from their file one at a time: the same values, and no trust in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reefleet.errors import (
    DamagedFile,
    NonFiniteValues,
    PayloadTooLarge,
    TensorMismatch,
    TruncatedPayload,
    WireError,
)
from reefleet.plan import UPLOAD_CODECS
from reefleet.wire.codecs import decode_update, encode_update
from reefleet.wire.packed import PackedFile
from reefleet.wire.tensors import Float32Tensor, pack_tensors

SHAPES = {"w": (30, 40), "b": (7,), "s": ()}


def values() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return {n: np.asarray(rng.normal(0, 1, s), np.float32) for n, s in SHAPES.items()}


def a_file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "update.rft"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", UPLOAD_CODECS)
def test_each_tensor_is_what_reading_the_whole_set_gives(tmp_path: Path, codec: str) -> None:
    data, _ = encode_update(values(), codec, {})
    opened = PackedFile(a_file(tmp_path, data), "key", SHAPES)
    for name, value in decode_update(data, SHAPES).items():
        assert opened[name].tobytes() == value.tobytes()
    half = PackedFile(a_file(tmp_path, data), "key", SHAPES, scale=0.5)
    assert np.array_equal(half["w"], opened["w"] * np.float32(0.5))


def test_other_tensors_than_expected_are_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path, encode_update(values(), "float32", {})[0])
    for expected in ({"w": (30, 40)}, {**SHAPES, "b": (8,)}, {**SHAPES, "x": ()}):
        with pytest.raises((TensorMismatch, PayloadTooLarge)):
            PackedFile(path, "key", expected)


def test_a_file_that_is_cut_or_no_set_is_refused(tmp_path: Path) -> None:
    data, _ = encode_update(values(), "int8", {})
    with pytest.raises(TruncatedPayload):
        PackedFile(a_file(tmp_path, data[:-3]), "key", SHAPES)
    with pytest.raises(TruncatedPayload):
        PackedFile(a_file(tmp_path, data[:30]), "key", SHAPES)
    with pytest.raises(WireError):
        PackedFile(a_file(tmp_path, b"x" * 500), "key", SHAPES)
    with pytest.raises(DamagedFile):
        PackedFile(tmp_path / "none", "key", SHAPES)


def test_values_that_are_not_finite_are_refused_where_they_are_read(tmp_path: Path) -> None:
    bad = {**values(), "b": np.full(7, np.nan, np.float32)}
    data = pack_tensors({name: Float32Tensor(value) for name, value in bad.items()})
    opened = PackedFile(a_file(tmp_path, data), "key", SHAPES)
    opened["w"]
    with pytest.raises(NonFiniteValues, match="'b'"):
        opened["b"]


def test_a_file_that_vanishes_meanwhile_is_named(tmp_path: Path) -> None:
    path = a_file(tmp_path, encode_update(values(), "float32", {})[0])
    opened = PackedFile(path, "key", SHAPES)
    path.unlink()
    with pytest.raises(DamagedFile, match=r"update\.rft"):
        opened["w"]
