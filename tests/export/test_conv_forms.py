"""The convolutional backbone in every form: equal to torch, exact in its weights, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from export.parity import FLOAT_TOLERANCE, INT8_TOLERANCE, run_variant, torch_logits
from export.quantize import eight_bit_tensors, quantize
from export.readback import onnx_steps, tflite_steps
from export.stages import model_part
from export.static_quantization import calibrate
from export.targets import Form
from export.tensorrt import PARSERS, Parser
from export.tflite.graph import schema
from export.tflite.lowering import lower_tflite
from export.trace import trace
from export.variants import SubModel, build_variant
from export.weights import grid_steps
from reefleet.datasets.pack import normalized
from reefleet.errors import UnsupportedOperator
from reefleet.model import ModelSpec, quantized_tensors
from reefleet.wire.checkpoint import initial
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.export.conftest import Inputs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ai_edge_litert")
Run = Callable[..., tuple[int, str, str]]
FORMS = [
    Form(kind, form, staged)
    for kind, forms in (
        ("onnx", ("float32", "int8", "packed")),
        ("tflite", ("float32", "int8", "int4")),
    )
    for form in forms
    for staged in (False, True)
]


def error(model: SubModel, form: Form, images: NDArray[np.float32]) -> float:
    """Largest relative error of a form in its runtime."""
    variant, files = build_variant(model, form)
    expected = torch_logits(model.tensors, model.spec, model.depth, images)
    found = run_variant(variant, files, images)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def scaled(inputs: Inputs) -> NDArray[np.float32]:
    return normalized(inputs.images, inputs.contract.preprocessing)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_equals_torch(form: Form, batch: int, conv_inputs: Inputs) -> None:
    spec = conv_inputs.contract.spec
    tensors = quantize(conv_inputs.weights, spec, 3, 4, int4=form.form == "int4")
    bound = FLOAT_TOLERANCE if form.form == "float32" else INT8_TOLERANCE
    assert error(SubModel(spec, 3, tensors, batch), form, scaled(conv_inputs)) <= bound


@pytest.mark.parametrize("parser", PARSERS.values(), ids=lambda parser: parser.jetpack)
@pytest.mark.parametrize("staged", [False, True])
def test_files_for_each_jetpack_keep_its_rules(
    parser: Parser, staged: bool, conv_inputs: Inputs
) -> None:
    spec, images = conv_inputs.contract.spec, scaled(conv_inputs)
    tensors = quantize(conv_inputs.weights, spec, 3, 4)
    seen = calibrate(model_part(spec, 3), tensors, images)
    model = SubModel(spec, 3, tensors, 1, seen, parser)
    assert error(model, Form("tensorrt", "float32", staged), images) <= FLOAT_TOLERANCE
    if parser.int8:
        assert error(model, Form("tensorrt", "qdq", staged), images) <= INT8_TOLERANCE


@pytest.mark.parametrize("form", [form for form in FORMS if form.form != "float32"])
def test_weights_read_back_are_the_packed_codes(form: Form, conv_inputs: Inputs) -> None:
    spec = conv_inputs.contract.spec
    tensors = quantize(conv_inputs.weights, spec, 3, 3, int4=form.form == "int4")
    _, files = build_variant(SubModel(spec, 3, tensors), form)
    read = tflite_steps if form.format == "tflite" else onnx_steps
    names = set()
    for data in files.values():
        for name, (steps, _) in read(data).items():
            tensor = tensors[name]
            assert isinstance(tensor, CodebookTensor)
            np.testing.assert_array_equal(steps, grid_steps(name, tensor))
            names.add(name)
    assert names == {*quantized_tensors(spec), *eight_bit_tensors(spec)}


def test_a_tflite_file_convolves_channels_last_without_a_transpose_between(
    conv_inputs: Inputs,
) -> None:
    spec = conv_inputs.contract.spec
    tensors = quantize(conv_inputs.weights, spec, 1, 4)
    made = schema()
    data = lower_tflite({"model": model_part(spec, 1).trace}, tensors, "int8")
    model = made.ModelT.InitFromPackedBuf(data, 0)
    codes = [code.builtinCode for code in model.operatorCodes]
    calls = [codes[call.opcodeIndex] for call in model.subgraphs[0].operators]
    ops = made.BuiltinOperator
    assert calls.count(ops.DEPTHWISE_CONV_2D) == 1
    near = calls[calls.index(ops.DEPTHWISE_CONV_2D) - 2 :][:4]
    assert near == [ops.RELU6, ops.PAD, ops.DEPTHWISE_CONV_2D, ops.RELU6]


def test_other_convolutions_are_refused_by_name() -> None:
    def dense(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"y": F.conv2d(values["x"], values["k"])}

    traced = trace(dense, {"x": torch.zeros(1, 2, 4, 4), "k": torch.zeros(3, 2, 3, 3)})
    kernel: dict[str, EncodedTensor] = {"k": Float32Tensor(np.zeros((3, 2, 3, 3), np.float32))}
    with pytest.raises(UnsupportedOperator, match="depthwise convolutions over channels last"):
        lower_tflite({"model": traced}, kernel, "float32")


@pytest.mark.parametrize("adapter", ["adapters", "parallel-adapters"])
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_adapters_are_layers_of_every_form(adapter: str, kind: str, conv_inputs: Inputs) -> None:
    spec: ModelSpec = replace(conv_inputs.contract.spec, adapter=adapter, rank=3)
    rng = np.random.default_rng(2)
    weights = {
        name: (value + 0.1 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in initial(spec, 0).items()
    }
    model = SubModel(spec, 3, quantize(weights, spec, 3, 4))
    assert error(model, Form(kind, "int8", staged=False), scaled(conv_inputs)) <= INT8_TOLERANCE
    assert error(model, Form(kind, "float32", staged=True), scaled(conv_inputs)) <= FLOAT_TOLERANCE


@pytest.fixture(scope="module")
def bundles(conv_inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from reefleet.cli import main

    out = tmp_path_factory.mktemp("conv-build") / "out"
    devices = ["--device", "rpi-zero2w", "--device", "jetson-orin-nano", "--bits", "3"]
    made = ["--depth", "3", "--out", str(out)]
    command = ["export", "build", str(conv_inputs.checkpoint), *conv_inputs.arguments]
    assert main([*command, *devices, *made]) == 0
    return out


@pytest.mark.parametrize("board", ["rpi-zero2w", "jetson-orin-nano-8gb"])
def test_a_bundle_of_it_holds_in_every_respect(board: str, bundles: Path, reefleet: Run) -> None:
    code, text, error_ = reefleet("export", "check", bundles / board, "--json")
    assert code == 0, error_
    assert any("equal the packed codes" in found["finding"] for found in json.loads(text))
    code, text, _ = reefleet("export", "show", bundles / board)
    assert code == 0
    assert "convolutional, 6 to 8 wide" in text
    assert "image float32 [B, 2, 9, 10]" in text


def test_the_edge_client_answers_from_it_as_torch_does(bundles: Path, conv_inputs: Inputs) -> None:
    from edge_client.inference import EarlyExitModel
    from reefleet.wire.tensors import unpack_tensors

    folder, images = bundles / "rpi-zero2w", scaled(conv_inputs)
    tensors = unpack_tensors((folder / "weights.rft").read_bytes(), 1 << 20)
    expected = torch_logits(tensors, conv_inputs.contract.spec, 3, images)
    model = EarlyExitModel.open(folder)
    found = np.stack([model.logits(image[None]) for image in images])
    assert np.abs(found - expected).max() <= INT8_TOLERANCE * np.abs(expected).max()


def test_no_file_holds_rees_weights_twice(bundles: Path) -> None:
    graph = onnx.load(bundles / "rpi-zero2w" / "model.packed.onnx").graph
    matrices = [t.raw_data for t in graph.initializer if t.name.startswith("ree.") and len(t.dims)]
    assert len([data for data in matrices if len(data) >= 256]) == 4
    assert len(matrices) == len(set(matrices))
