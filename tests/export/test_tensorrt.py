"""Files for a Jetson: every rule of each JetPack's parser, without the hardware."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices import catalog
from export.lowering import lower
from export.parity import INT8_TOLERANCE, run_variant, torch_logits
from export.quantize import quantize
from export.readback import onnx_steps
from export.stages import model_part
from export.static_quantization import Calibration, calibrate
from export.targets import Form
from export.tensorrt import PARSERS, check, parser_of
from export.tensorrt_bench import SCRIPT
from export.variants import SubModel, build_variant
from export.weights import EmbeddedInt8, grid_steps
from reefleet.datasets.pack import normalized
from reefleet.errors import ConfigError, DataTooSmall, RuleBroken
from reefleet.wire.tensors import CodebookTensor

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

INT8 = [name for name, parser in PARSERS.items() if parser.int8]


def sub_model(inputs: Inputs, jetpack: str) -> SubModel:
    spec = inputs.contract.spec
    tensors = quantize(inputs.weights, spec, 2, 4)
    images = normalized(inputs.images, inputs.contract.preprocessing)
    seen = calibrate(model_part(spec, 2), tensors, images)
    return SubModel(spec, 2, tensors, 1, seen, PARSERS[jetpack])


@pytest.fixture(scope="module")
def qdq(inputs: Inputs) -> bytes:
    _, files = build_variant(sub_model(inputs, "6.2"), Form("tensorrt", "qdq", staged=False))
    return files["model.tensorrt-qdq.onnx"]


@pytest.mark.parametrize("jetpack", INT8)
@pytest.mark.parametrize("staged", [False, True])
def test_static_int8_keeps_the_rules_and_stays_within_tolerance(
    inputs: Inputs, jetpack: str, staged: bool
) -> None:
    model = sub_model(inputs, jetpack)
    variant, files = build_variant(model, Form("tensorrt", "qdq", staged))
    images = normalized(inputs.images, inputs.contract.preprocessing)
    expected = torch_logits(model.tensors, model.spec, 2, images)
    found = run_variant(variant, files, images)
    assert np.abs(found - expected).max() <= INT8_TOLERANCE * np.abs(expected).max()
    for data in files.values():
        for name, (steps, _) in onnx_steps(data).items():
            tensor = model.tensors[name]
            assert isinstance(tensor, CodebookTensor)
            np.testing.assert_array_equal(steps, grid_steps(name, tensor))


@pytest.mark.parametrize("jetpack", list(PARSERS))
def test_float_files_keep_the_rules_of_every_jetpack(inputs: Inputs, jetpack: str) -> None:
    form = Form("tensorrt", "float32", staged=True)
    _, files = build_variant(sub_model(inputs, jetpack), form)
    for data in files.values():
        opsets = onnx.load_from_string(data).opset_import
        assert [entry.version for entry in opsets] == [PARSERS[jetpack].opset]


def test_the_cpu_form_is_refused_by_the_name_of_a_node(inputs: Inputs) -> None:
    model = sub_model(inputs, "6.2")
    graph = lower(model_part(model.spec, 2).trace, "model", EmbeddedInt8(model.tensors))
    with pytest.raises(RuleBroken, match=r"m\.onnx: node _\w+ \(Dynamic"):
        check(graph, PARSERS["6.2"], "m.onnx")


@pytest.mark.parametrize(
    ("jetpack", "why"),
    [
        ("4.6", "opset 20 is above 13"),
        ("5.1", "opset 20 is above 17"),
        ("6.0", "opset 20 is above 17"),
    ],
)
def test_a_newer_opset_is_refused_by_an_older_parser(qdq: bytes, jetpack: str, why: str) -> None:
    with pytest.raises(RuleBroken, match=why):
        check(onnx.load_from_string(qdq), PARSERS[jetpack], "m")


def test_operators_that_a_parser_lacks_are_named(qdq: bytes) -> None:
    model = onnx.load_from_string(qdq)
    model.opset_import[0].version = 17
    with pytest.raises(RuleBroken, match=r"\(Gelu\) breaks a rule of JetPack 6\.0"):
        check(model, PARSERS["6.0"], "m")


def _domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _zero_point(model: onnx.ModelProto) -> None:
    _set(model, _first(model, "QuantizeLinear").input[2], np.array(3, np.int8))


def _unsigned(model: onnx.ModelProto) -> None:
    _set(model, _first(model, "QuantizeLinear").input[2], np.array(0, np.uint8))


def _no_zero_point(model: onnx.ModelProto) -> None:
    del _first(model, "QuantizeLinear").input[2]


def _negative_scale(model: onnx.ModelProto) -> None:
    _set(model, _first(model, "QuantizeLinear").input[1], np.array(-1, np.float32))


def _activation_channels(model: onnx.ModelProto) -> None:
    _set(model, _first(model, "QuantizeLinear").input[1], np.ones(32, np.float32))


def _one_input(model: onnx.ModelProto) -> None:
    pair = _first(model, "QuantizeLinear")
    product = _first(model, "MatMul")
    product.input[0] = pair.input[0]


def _full_range(model: onnx.ModelProto) -> None:
    stored = next(t for t in model.graph.initializer if t.name.endswith("qkv.weight.weight"))
    values = numpy_helper.to_array(stored).copy()
    values[0, 0] = -128
    _set(model, stored.name, values)


def _integer_bias(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.int32), "bias"))
    scale = _first(model, "QuantizeLinear").input[1]
    zero = _first(model, "QuantizeLinear").input[2]
    node = helper.make_node("DequantizeLinear", ["bias", scale, zero], ["unused"])
    model.graph.node.append(node)


def _before_a_norm(model: onnx.ModelProto) -> None:
    pair, norm = _first(model, "DequantizeLinear"), _first(model, "LayerNormalization")
    norm.input[0] = pair.output[0]


def _moving_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def _codebook(model: onnx.ModelProto) -> None:
    product = next(n for n in model.graph.node if n.op_type == "Gemm")
    product.input[1] = "looked_up"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "centers"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 2), np.int64), "index"))
    model.graph.node.append(helper.make_node("Gather", ["centers", "index"], ["looked_up"]))


def _too_large(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e5], np.float32), "large"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_domain, "it imports the domain 'com.microsoft'"),
        (_zero_point, "the zero point must be all zeros"),
        (_unsigned, "the zero point must be a constant of a signed type"),
        (_no_zero_point, "the zero point must be given"),
        (_negative_scale, "scales must be finite and positive"),
        (_activation_channels, "activations have one scale a tensor"),
        (_one_input, "both inputs must be quantized, or neither"),
        (_full_range, r"weights lie in \[-127, 127\]"),
        (_integer_bias, "weights are int8, found int32; biases stay float"),
        (_before_a_norm, "pairs stand in front of products alone"),
        (_moving_shape, "the shape of an input must be fixed"),
        (_codebook, "a codebook is no type of TensorRT"),
        (_too_large, "the values do not fit half precision"),
    ],
)
def test_a_broken_rule_is_named_with_its_node(
    qdq: bytes, spoil: Callable[[onnx.ModelProto], None], why: str
) -> None:
    model = onnx.load_from_string(qdq)
    check(model, PARSERS["6.2"], "sound")
    spoil(model)
    with pytest.raises(RuleBroken, match=rf"m\.onnx: node \S+.* breaks a rule of .*: .*{why}"):
        check(model, PARSERS["6.2"], "m.onnx")


def test_tensorrt_8_wants_float_weights_behind_a_quantize_node(inputs: Inputs) -> None:
    _, files = build_variant(sub_model(inputs, "6.0"), Form("tensorrt", "qdq", staged=False))
    model = onnx.load_from_string(files["model.tensorrt-qdq.onnx"])
    kinds = {t.data_type for t in model.graph.initializer if t.name.endswith("qkv.weight.float")}
    assert kinds == {TensorProto.FLOAT}
    check(model, PARSERS["6.2"], "newer parsers read it too")


def test_a_board_gets_its_newest_jetpack_unless_told() -> None:
    board = catalog.find("jetson-orin-nano")
    assert parser_of(board).jetpack == "6.2"
    assert parser_of(board, "5.1").jetpack == "5.1"
    with pytest.raises(ConfigError, match=r"not 7\.2"):
        parser_of(board, "7.2")


def test_calibration_without_samples_is_refused(inputs: Inputs) -> None:
    spec = inputs.contract.spec
    tensors = quantize(inputs.weights, spec, 2, 4)
    with pytest.raises(DataTooSmall, match="at least one calibration sample"):
        calibrate(model_part(spec, 2), tensors, np.zeros((0, 3, 8, 8), np.float32))


def test_values_beyond_half_precision_are_named() -> None:
    with pytest.raises(RuleBroken, match=r"bmm_3 reaches 7e\+04 on the calibration samples"):
        Calibration({}, 7e4, "bmm_3").require_half_range()


def test_the_script_keeps_the_faster_engine(tmp_path: Path) -> None:
    for form in ("qdq", "float32"):
        (tmp_path / f"model.tensorrt-{form}.onnx").write_bytes(b"")
    tool = tmp_path / "trtexec"
    tool.write_text(
        "#!/bin/sh\n"
        'for a in "$@"; do\n'
        'case $a in --saveEngine=*) echo "$a" >"${a#--saveEngine=}";; esac; done\n'
        'case "$*" in *--int8*) ms=2.5;; *) ms=1.25;; esac\n'
        'echo "[I] GPU Compute Time: min = 1 ms, max = 9 ms, mean = 3 ms, median = $ms ms, p = 1"\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "bench-tensorrt.sh").write_bytes(SCRIPT)
    done = subprocess.run(
        ["/bin/sh", "bench-tensorrt.sh"],
        cwd=tmp_path,
        env={**os.environ, "TRTEXEC": str(tool)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "qdq: median 2.5 ms",
        "float32: median 1.25 ms",
        "chosen: float32",
    ]
    assert (tmp_path / "model.engine").read_text() == "--saveEngine=float32.engine\n"


def _first(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op)


def _set(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
