"""TFLite files: equal to torch in the interpreter, exact in their weights, named signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from export.parity import FLOAT_TOLERANCE, INT8_TOLERANCE, run_variant, torch_logits
from export.quantize import eight_bit_tensors, quantize
from export.readback import tflite_steps
from export.stages import model_part
from export.targets import Form
from export.tflite.graph import (
    SIGNATURE,
    TfliteBuilder,
    TfliteFile,
    require_right_results,
    schema,
)
from export.tflite.lowering import lower_tflite
from export.trace import trace
from export.variants import SubModel, build_variant
from export.weights import grid_of, grid_steps
from reefleet.datasets.pack import normalized
from reefleet.errors import ParityFailure, TensorMismatch, UnsupportedOperator
from reefleet.model import quantized_tensors
from reefleet.wire.tensors import CodebookTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from reefleet.wire.tensors import EncodedTensor
    from tests.export.conftest import Inputs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ai_edge_litert")


def packed(inputs: Inputs, form: str, bits: int = 4) -> dict[str, EncodedTensor]:
    return quantize(inputs.weights, inputs.contract.spec, 3, bits, int4=form == "int4")


def errors(inputs: Inputs, form: str, *, staged: bool, batch: int = 1) -> NDArray[np.float32]:
    """Largest relative error of each exit in LiteRT."""
    tensors = packed(inputs, form)
    model = SubModel(inputs.contract.spec, 3, tensors, batch)
    variant, files = build_variant(model, Form("tflite", form, staged))
    images = normalized(inputs.images, inputs.contract.preprocessing)
    expected = torch_logits(tensors, inputs.contract.spec, 3, images)
    found = run_variant(variant, files, images)
    worst: NDArray[np.float32] = np.abs(found - expected).max((0, 2)) / np.abs(expected).max()
    return worst


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_float_files_equal_torch_at_every_exit(inputs: Inputs, staged: bool, batch: int) -> None:
    assert errors(inputs, "float32", staged=staged, batch=batch).max() <= FLOAT_TOLERANCE


def test_a_batch_is_of_the_one_file_graph_and_the_chain_takes_one_image(inputs: Inputs) -> None:
    model = SubModel(inputs.contract.spec, 3, packed(inputs, "int8"), 5)
    found = [build_variant(model, Form("tflite", "int8", staged))[0] for staged in (False, True)]
    assert [variant.batch for variant in found] == [5, 1]


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_integer_files_stay_within_the_stated_tolerance(
    inputs: Inputs, form: str, staged: bool
) -> None:
    assert errors(inputs, form, staged=staged).max() <= INT8_TOLERANCE


@pytest.mark.parametrize(("form", "bits"), [("int8", 1), ("int8", 5), ("int4", 4), ("int4", 2)])
def test_weights_read_back_are_the_packed_codes(inputs: Inputs, form: str, bits: int) -> None:
    spec, tensors = inputs.contract.spec, packed(inputs, form, bits)
    found = tflite_steps(lower_tflite({SIGNATURE: model_part(spec, 3).trace}, tensors, form))
    assert set(found) == {*quantized_tensors(spec), *eight_bit_tensors(spec)}
    for name, (steps, scale) in found.items():
        tensor = tensors[name]
        assert isinstance(tensor, CodebookTensor)
        np.testing.assert_array_equal(steps, grid_steps(name, tensor))
        assert np.float32(scale) == np.float32(grid_of(name, tensor).scale)


def test_int4_files_are_half_as_large_as_int8_ones(inputs: Inputs) -> None:
    spec, tensors = inputs.contract.spec, packed(inputs, "int4")
    traces = {SIGNATURE: model_part(spec, 3).trace}
    weights = sum(int(np.prod(tensors[name].shape)) for name in quantized_tensors(spec))
    int8, int4 = (len(lower_tflite(traces, tensors, form)) for form in ("int8", "int4"))
    assert int8 - int4 == pytest.approx(weights / 2, rel=0.02)


def stages_file(inputs: Inputs, form: str) -> bytes:
    model = SubModel(inputs.contract.spec, 3, packed(inputs, form))
    _, files = build_variant(model, Form("tflite", form, staged=True))
    assert list(files) == [f"stages.{form}.tflite"]
    return files[f"stages.{form}.tflite"]


def test_the_signatures_name_the_stages_their_inputs_and_outputs(inputs: Inputs) -> None:
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_content=stages_file(inputs, "int8")).get_signature_list()
    assert list(found) == ["stage-0", "stage-1", "stage-2"]
    assert found["stage-0"]["inputs"] == ["image"]
    assert sorted(found["stage-1"]["inputs"]) == ["history", "tokens"]
    assert sorted(found["stage-1"]["outputs"]) == ["history_out", "logits", "tokens_out"]
    assert found["stage-2"]["outputs"] == ["logits"]


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_stages_store_what_they_share_once(inputs: Inputs, form: str) -> None:
    model = schema().ModelT.InitFromPackedBuf(stages_file(inputs, form), 0)
    used: dict[bytes, set[int]] = {}
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        if tensor.name.startswith(b"ree.") or form == "float32":
            data = model.buffers[tensor.buffer].data
            used.setdefault(b"" if data is None else bytes(data), set()).add(tensor.buffer)
    assert len(used) > 1
    assert all(len(buffers) == 1 for buffers in used.values())


def test_stages_that_hold_different_weights_of_one_name_are_refused(inputs: Inputs) -> None:
    import flatbuffers

    model = schema().ModelT.InitFromPackedBuf(stages_file(inputs, "int8"), 0)
    tensors = [t for t in model.subgraphs[1].tensors if t.name == b"ree.attn.qkv.weight"]
    tensors[0].quantization.scale = [2 * float(tensors[0].quantization.scale[0])]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(ParityFailure, match=r"different weights 'ree\.attn\.qkv\.weight'"):
        tflite_steps(bytes(builder.Output()))


def test_the_same_trace_gives_the_same_bytes(inputs: Inputs) -> None:
    part, tensors = model_part(inputs.contract.spec, 3), packed(inputs, "int8")
    once, again = (lower_tflite({SIGNATURE: part.trace}, tensors, "int8") for _ in range(2))
    assert once == again


def test_weights_off_the_int4_grid_are_refused(inputs: Inputs) -> None:
    part = model_part(inputs.contract.spec, 3)
    with pytest.raises(TensorMismatch, match="lies on the int8 grid; build with --form int4"):
        lower_tflite({SIGNATURE: part.trace}, packed(inputs, "int8"), "int4")


def test_one_scale_a_channel_is_refused_with_the_reason() -> None:
    builder = TfliteBuilder(TfliteFile())
    with pytest.raises(UnsupportedOperator, match=r"garbage in tflite-runtime 2\.14"):
        builder.weight("w", np.zeros((2, 2), np.int8), [0.1, 0.2], "int8")


def test_an_int2_convolution_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedOperator, match=r"CONV_2D .* NaN in LiteRT 2\.3"):
        require_right_results("CONV_2D", "int2", [0.1])


def test_an_operator_that_is_not_lowered_is_named() -> None:
    traced = trace(lambda values: {"y": torch.erfinv(values["x"])}, {"x": torch.zeros(2)})
    with pytest.raises(UnsupportedOperator, match="erfinv"):
        lower_tflite({"model": traced}, {}, "float32")


def test_a_layer_of_zeros_is_written_and_runs(inputs: Inputs) -> None:
    weights = {**inputs.weights, "blocks.0.mlp.fc1.weight": np.zeros((128, 32), np.float32)}
    spec = inputs.contract.spec
    tensors = quantize(weights, spec, 1, 2)
    model = SubModel(spec, 1, tensors)
    images = normalized(inputs.images[:3], inputs.contract.preprocessing)
    expected = torch_logits(tensors, spec, 1, images)
    for form in (Form("tflite", "int8", staged=False), Form("onnx", "packed", staged=False)):
        variant, files = build_variant(model, form)
        found = run_variant(variant, files, images)
        assert np.abs(found - expected).max() <= INT8_TOLERANCE * np.abs(expected).max()
