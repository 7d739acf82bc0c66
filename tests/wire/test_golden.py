"""Frozen files: the format of packed tensors does not change under a reader's feet."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from reefleet.wire import tensors as t
from reefleet.wire.codebook import Grid

GOLDEN = Path(__file__).parents[1] / "golden"
WIRE_FORMAT = Path(__file__).parents[2] / "docs" / "wire-format.md"
BOUND = 1 << 16

EXACT: dict[str, dict[str, t.EncodedTensor]] = {
    "float32": {
        "blocks.0.norm1.bias": t.Float32Tensor(np.array([0.1, -2.5, 3e-39], np.float32)),
        "head.weight": t.Float32Tensor(np.array([[0, 0.25, 0.5], [0.75, 1, 1.25]], np.float32)),
        "scalar": t.Float32Tensor(np.array(-0.0, np.float32)),
    },
    "float16": {"w": t.Float16Tensor(np.array([[0.1, -65504], [6e-8, 1]], np.float16))},
    "int8-blocks": {
        "w": t.Int8BlocksTensor(
            np.array([127, -127, 0, 1, -1], np.int8), np.array([0.5, 2], np.float32), 3, (5, 1)
        )
    },
    "codebook-free": {
        f"b{bits}": t.CodebookTensor(
            (np.arange(9) * 37 % (1 << bits)).astype(np.uint8),
            bits,
            ((np.arange(1 << bits) + 0.5) / (1 << (bits - 1)) - 1).astype(np.float32),
        )
        for bits in (1, 3, 8)
    },
    "codebook-grid": {
        "w": t.CodebookTensor(
            np.array([[0, 1, 2], [3, 3, 0]], np.uint8),
            2,
            Grid(np.array([-127, -40, 38, 127], np.int8), 0.0078125),
        )
    },
}
VALUES = {
    "float32/blocks.0.norm1.bias": [0.1, -2.5, 3e-39],
    "float32/head.weight": [[0, 0.25, 0.5], [0.75, 1, 1.25]],
    "float32/scalar": -0.0,
    "float16/w": [[0.0999755859375, -65504], [5.960464477539063e-08, 1]],
    "int8-blocks/w": [[63.5], [-63.5], [0], [2], [-2]],
    "codebook-free/b1": [-0.5, 0.5, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5, -0.5],
    "codebook-free/b3": [-0.875, 0.375, -0.375, 0.875, 0.125, -0.625, 0.625, -0.125, -0.875],
    "codebook-grid/w": [[-0.9921875, -0.3125, 0.296875], [0.9921875, 0.9921875, -0.9921875]],
}


@pytest.mark.parametrize("name", EXACT)
def test_writing_gives_exactly_the_frozen_bytes(name: str) -> None:
    assert t.pack_tensors(EXACT[name], compress=False) == (GOLDEN / f"{name}.rft").read_bytes()


@pytest.mark.parametrize("path", VALUES)
def test_reading_frozen_bytes_gives_the_stored_values(path: str) -> None:
    file, name = path.split("/")
    found = t.unpack_tensors((GOLDEN / f"{file}.rft").read_bytes(), BOUND)[name]
    expected = np.array(VALUES[path], np.float32)
    assert type(found) is type(EXACT[file][name])
    assert found.decode().tobytes() == expected.tobytes()
    assert found.shape == expected.shape


def test_a_frozen_zstd_payload_gives_the_stored_values() -> None:
    found = t.unpack_tensors((GOLDEN / "float32-zstd.rft").read_bytes(), BOUND)["w"]
    assert np.array_equal(found.decode(), np.repeat(np.arange(4, dtype=np.float32), 64))


def test_the_example_in_the_documentation_is_the_frozen_file() -> None:
    text = WIRE_FORMAT.read_text()
    example = re.search(r"```hex\n(.*?)```", text, re.DOTALL)
    assert example is not None
    rows = [line.split("|")[0] for line in example[1].splitlines()]
    assert bytes.fromhex(" ".join(rows)) == (GOLDEN / "codebook-grid.rft").read_bytes()
