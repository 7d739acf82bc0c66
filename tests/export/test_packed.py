"""Packed ONNX files: as small as their bits and floats, and holding exactly the packed codes."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.quantize import quantize
from export.readback import onnx_steps
from export.targets import Form
from export.variants import SubModel, build_variant
from export.weights import grid_steps
from reefleet.model import ModelSpec
from reefleet.wire.checkpoint import initial
from reefleet.wire.tensors import CodebookTensor, EncodedTensor

SPEC = ModelSpec(
    image_size=32, patch_size=4, channels=3, width=192, heads=3, depth=3, classes=10, exits=(3,)
)
OVERHEAD = 1.05  # with 12 blocks, where floats around them weigh less, 1.06 is promised


@cache
def built(bits: int) -> tuple[dict[str, EncodedTensor], bytes]:
    tensors = quantize(initial(SPEC, 0), SPEC, SPEC.depth, bits)
    model = SubModel(SPEC, SPEC.depth, tensors)
    _, files = build_variant(model, Form("onnx", "packed", staged=False))
    return tensors, files["model.packed.onnx"]


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_file_is_hardly_larger_than_its_bits_and_floats(bits: int) -> None:
    tensors, file = built(bits)
    needed = sum(
        t.codes.size * t.bits / 8 if isinstance(t, CodebookTensor) else 4 * math.prod(t.shape)
        for t in tensors.values()
    )
    assert needed < len(file) <= OVERHEAD * needed


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_codes_are_read_back_under_the_names_of_their_weights(bits: int) -> None:
    tensors, file = built(bits)
    coded = {name: t for name, t in tensors.items() if isinstance(t, CodebookTensor)}
    found = onnx_steps(file)
    assert set(found) == set(coded)
    for name, (steps, _) in found.items():
        np.testing.assert_array_equal(steps, grid_steps(name, coded[name]))


def test_the_runtime_unpacks_them_when_it_opens_the_file(tmp_path: Path) -> None:
    _, file = built(3)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    opened = onnx.load(tmp_path / "opened.onnx").graph
    stored = [tensor.name for tensor in onnx.load_from_string(file).graph.initializer]
    assert any(".codes" in name for name in stored)
    assert not any(".codes" in tensor.name for tensor in opened.initializer)
