"""Inference graphs against torch: the batch graph, the float chain, the integer chain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from export.onnx_graph import EXTERNAL_LOCATION
from export.parity import FLOAT_TOLERANCE, INT8_TOLERANCE, check_stages, run_stages, torch_logits
from export.quantize import quantize
from export.stages import predict_graph, stage_graphs
from reefleet.errors import ParityFailure
from reefleet.learning.vit import init_params
from reefleet.model import ModelSpec, quantized_tensors, tensor_shapes
from reefleet.wire.codebook import Grid
from reefleet.wire.initializers import Initializers
from reefleet.wire.manifest import Stage
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor

SPEC = ModelSpec(
    image_size=8, patch_size=4, channels=1, width=32, heads=2, depth=4, classes=4, exits=(1, 3, 4)
)


def weights() -> dict[str, NDArray[np.float32]]:
    """Weights spread widely enough that each path through the network matters."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: (value + 0.1 * torch.randn(value.shape, generator=generator)).numpy()
        for name, value in init_params(SPEC, 0).items()
    }


def images(count: int = 40) -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=(count, 1, 8, 8)).astype(np.float32)


def chain(depth: int, *, quantized: bool) -> tuple[tuple[Stage, ...], dict[str, bytes]]:
    built = stage_graphs(SPEC, depth, quantized=quantized)
    return tuple(s for s, _ in built), {s.file: g.SerializeToString() for s, g in built}


def plain(depth: int) -> dict[str, EncodedTensor]:
    found = weights()
    return {name: Float32Tensor(found[name]) for name in tensor_shapes(SPEC, depth)}


def relative_errors(
    depth: int, tensors: Mapping[str, EncodedTensor], *, quantized: bool
) -> NDArray[np.float32]:
    stages, graphs = chain(depth, quantized=quantized)
    expected = torch_logits(tensors, SPEC, depth, images())
    found = run_stages(stages, graphs, tensors, images())
    errors: NDArray[np.float32] = np.abs(found - expected).max((0, 2)) / np.abs(expected).max()
    return errors


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_predict_graph_equals_torch_at_every_exit(depth: int) -> None:
    session = onnxruntime.InferenceSession(predict_graph(SPEC, depth, 8).SerializeToString())
    fed = {name: array for name, array in weights().items() if name in tensor_shapes(SPEC, depth)}
    (found,) = session.run(None, {"image": images(8), **fed})
    expected = torch_logits(plain(depth), SPEC, depth, images(8))
    assert np.abs(found - expected).max() <= FLOAT_TOLERANCE


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_float_stages_equal_torch_at_every_exit(depth: int) -> None:
    assert relative_errors(depth, plain(depth), quantized=False).max() <= FLOAT_TOLERANCE


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_integer_stages_stay_within_the_stated_tolerance(bits: int) -> None:
    tensors = quantize(weights(), SPEC, 4, bits)
    assert relative_errors(4, tensors, quantized=True).max() <= INT8_TOLERANCE


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_integer_weights_are_exactly_the_packed_codes(bits: int) -> None:
    tensors = quantize(weights(), SPEC, 4, bits)
    stages, _ = chain(4, quantized=True)
    filled = Initializers(tensors)
    seen = set()
    for stage in stages:
        arrays = filled.of(stage.initializers)
        for name in set(arrays) & set(quantized_tensors(SPEC)):
            tensor = tensors[name]
            assert isinstance(tensor, CodebookTensor)
            assert isinstance(tensor.codebook, Grid)
            assert arrays[name].dtype == np.int8
            exact = arrays[name].T.astype(np.float32) * arrays[f"{name}.scale"]
            np.testing.assert_array_equal(exact, tensor.decode())
            seen.add(name)
    assert seen == set(quantized_tensors(SPEC))


def test_stage_files_carry_no_weights() -> None:
    for _, graph in stage_graphs(SPEC, 4, quantized=True):
        for tensor in graph.graph.initializer:
            external = {entry.key: entry.value for entry in tensor.external_data}
            if external:
                assert external["location"] == EXTERNAL_LOCATION
            else:
                assert tensor.ByteSize() < 256, tensor.name


def test_the_last_stage_gives_logits_alone() -> None:
    last = stage_graphs(SPEC, 3, quantized=True)[-1][1]
    assert [value.name for value in last.graph.output] == ["logits"]


def test_a_stage_that_disagrees_is_named_with_its_figure() -> None:
    stages, graphs = chain(4, quantized=False)
    tensors = plain(4)
    graphs["stage-1.onnx"] = graphs["stage-1.onnx"].replace(b"Gelu", b"Relu")
    with pytest.raises(ParityFailure, match=r"stage-1\.onnx: exit 3 differs .* of the largest"):
        check_stages(stages, graphs, tensors, SPEC, images(), quantized=False)


def test_passing_stages_report_each_exit() -> None:
    stages, graphs = chain(4, quantized=True)
    tensors = quantize(weights(), SPEC, 4, 8)
    report = check_stages(stages, graphs, tensors, SPEC, images(), quantized=True)
    assert [result.exit_depth for result in report] == [1, 3, 4]
    assert all(result.agreement >= 0.95 for result in report)
