"""TensorRT as each JetPack ships it, and the rules a graph must keep to be parsed there.

From the parser's documentation and source (versions in docs/export.md). Nothing here needs a
Jetson, and nothing here was run on one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from devices.catalog import Board
from reefleet.errors import ConfigError, RuleBroken


@dataclass(frozen=True, slots=True)
class Parser:
    """One JetPack's TensorRT: what its parser reads, and the opset that is written for it.

    `float_weights`: a quantized weight is a float initializer and a Quantize node. `int8`: Q/DQ is
    worth writing at all.
    """

    jetpack: str
    version: str
    ceiling: int
    opset: int
    int8: bool
    float_weights: bool
    int4: bool
    missing: frozenset[str]

    @property
    def label(self) -> str:
        """For messages."""
        return f"JetPack {self.jetpack} (TensorRT {self.version})"


_OLD = frozenset({"Gelu", "LayerNormalization", "Attention"})
# Opset 20 at most is written: with opset 21 onnxruntime on x86 refuses symmetric int8 pairs
# (its own rewriting mixes up types), and then nothing could be checked here.
PARSERS: Mapping[str, Parser] = {
    parser.jetpack: parser
    for parser in (
        Parser("4.6", "8.2", 13, 13, False, True, False, _OLD),  # noqa: FBT003
        Parser("5.1", "8.5", 17, 16, True, True, False, _OLD),  # noqa: FBT003
        Parser("6.0", "8.6", 17, 17, True, True, False, frozenset({"Gelu", "Attention"})),  # noqa: FBT003
        Parser("6.2", "10.3", 20, 20, True, False, False, frozenset({"Attention"})),  # noqa: FBT003
        Parser("7.2", "10.16", 24, 20, True, False, True, frozenset()),  # noqa: FBT003
    )
}

_NEVER = frozenset(
    {
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
        "MatMulNBits",
        "If",
        "Loop",
        "Scan",
    }
)
_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
_CONV_AXIS, _MATMUL_AXIS, _GEMM_TRANSPOSED_AXIS = 0, 1, 0


def parser_of(board: Board, jetpack: str = "") -> Parser:
    """The parser of the board's newest JetPack, or of `jetpack`; raises ConfigError."""
    if not board.jetpack:
        msg = f"{board.id} has no TensorRT; build --format onnx or tflite for it"
        raise ConfigError(msg)
    fitting = [p for p in PARSERS.values() if p.jetpack.partition(".")[0] in board.jetpack]
    if not jetpack:
        return fitting[-1]
    for parser in fitting:
        if parser.jetpack == jetpack:
            return parser
    known = ", ".join(p.jetpack for p in fitting)
    msg = f"{board.id} runs JetPack {known}, not {jetpack}"
    raise ConfigError(msg)


def check(model: onnx.ModelProto, parser: Parser, file: str) -> None:
    """Raise RuleBroken naming file, node and rule, unless the parser's every rule is kept."""
    graph = _Graph(model)
    for rule in _RULES:
        for node, why in rule(graph, parser):
            msg = f"{file}: node {node} breaks a rule of {parser.label}: {why}"
            raise RuleBroken(msg)


class _Graph:
    """Look-ups over a model: who makes a value, who uses it, constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.maker = {output: node for node in self.nodes for output in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for value in node.input:
                self.users.setdefault(value, []).append(node)
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(self, name: str) -> NDArray[Any] | None:
        tensor = self.initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def comes_from(self, name: str) -> str:
        """Operator that makes a value: '' for an input, 'Constant' for an initializer."""
        if name in self.initializers:
            return "Constant"
        return str(self.maker[name].op_type) if name in self.maker else ""


Broken = Iterator[tuple[str, str]]
Rule = Callable[[_Graph, Parser], Broken]


def _name(node: onnx.NodeProto) -> str:
    return f"{node.name or node.output[0]} ({node.op_type})"


def _opset(graph: _Graph, parser: Parser) -> Broken:
    for entry in graph.model.opset_import:
        if entry.domain:
            yield "-", f"it imports the domain {entry.domain!r}"
        elif entry.version > parser.ceiling:
            yield "-", f"opset {entry.version} is above {parser.ceiling}"
    for node in graph.nodes:
        if node.domain:
            yield _name(node), f"its domain is {node.domain!r}"


def _operators(graph: _Graph, parser: Parser) -> Broken:
    for node in graph.nodes:
        if node.op_type in _NEVER:
            yield _name(node), "the parser has no such operator; quantize statically, in stages"
        elif node.op_type in parser.missing:
            yield _name(node), "the parser has no such operator; write it in older ones"


def _zero_points(graph: _Graph, _parser: Parser) -> Broken:
    for node in _pairs(graph):
        if len(node.input) < 3:
            yield _name(node), "the zero point must be given"
            continue
        zero = graph.initializers.get(node.input[2])
        if zero is None or zero.data_type not in {TensorProto.INT8, TensorProto.INT4}:
            yield _name(node), "the zero point must be a constant of a signed type"
        elif numpy_helper.to_array(zero).any():
            yield _name(node), "quantization is symmetric; the zero point must be all zeros"


def _scales(graph: _Graph, _parser: Parser) -> Broken:
    for node in _pairs(graph):
        scale = graph.constant(node.input[1])
        if scale is None:
            yield _name(node), "the scale must be a constant"
        elif not (np.isfinite(scale).all() and (scale > 0).all()):
            yield _name(node), "scales must be finite and positive"
        elif scale.size > 1:
            yield from _channels(graph, node, scale.size)


def _channels(graph: _Graph, node: onnx.NodeProto, count: int) -> Broken:
    weight = graph.constant(node.input[0])
    if weight is None and graph.comes_from(node.input[0]) == "QuantizeLinear":
        weight = graph.constant(graph.maker[node.input[0]].input[0])
    if _attribute(node, "block_size", 0):
        return
    if weight is None:
        yield _name(node), "activations have one scale a tensor"
        return
    axis = int(_attribute(node, "axis", 1))
    for user in graph.users.get(node.output[0], []):
        wanted = _MATMUL_AXIS
        if user.op_type == "Conv":
            wanted = _CONV_AXIS
        elif user.op_type == "Gemm" and _attribute(user, "transB", 0):
            wanted = _GEMM_TRANSPOSED_AXIS
        if user.op_type in _PRODUCTS and axis != wanted:
            yield _name(node), f"scales of a {user.op_type} weight run along axis {wanted}"
    if weight.shape[axis] != count:
        yield _name(node), f"{count} scales for {weight.shape[axis]} output channels"


def _both_inputs(graph: _Graph, _parser: Parser) -> Broken:
    for node in graph.nodes:
        if node.op_type not in _PRODUCTS:
            continue
        made = [graph.comes_from(name) == "DequantizeLinear" for name in node.input[:2]]
        if made[0] != made[1] and not _weight_only_int4(graph, node):
            yield _name(node), "both inputs must be quantized, or neither"
        if len(node.input) > 2 and graph.comes_from(node.input[2]) == "DequantizeLinear":
            yield _name(node), "the bias must be float"


def _weight_only_int4(graph: _Graph, node: onnx.NodeProto) -> bool:
    maker = graph.maker.get(node.input[1])
    stored = None if maker is None else graph.initializers.get(maker.input[0])
    return stored is not None and stored.data_type == TensorProto.INT4


def _weights(graph: _Graph, parser: Parser) -> Broken:
    for node in graph.nodes:
        if node.op_type != "DequantizeLinear":
            continue
        stored = graph.initializers.get(node.input[0])
        if stored is None:
            continue
        if stored.data_type == TensorProto.INT4:
            if not parser.int4:
                yield _name(node), "int4 weights need TensorRT 10 and opset 21 (JetPack 7.2)"
            elif not _attribute(node, "block_size", 0):
                yield _name(node), "int4 weights are quantized in blocks along K"
        elif stored.data_type != TensorProto.INT8:
            kind = helper.tensor_dtype_to_np_dtype(stored.data_type)
            yield _name(node), f"weights are int8, found {kind}; biases stay float"
        elif parser.float_weights:
            yield _name(node), "TensorRT 8 wants the float weight, then Quantize, then Dequantize"
        elif int(numpy_helper.to_array(stored).min()) < -127:
            yield _name(node), "weights lie in [-127, 127]"


def _placement(graph: _Graph, _parser: Parser) -> Broken:
    outputs = {value.name for value in graph.model.graph.output}
    for node in _pairs(graph):
        wanted = {"DequantizeLinear"} if node.op_type == "QuantizeLinear" else _PRODUCTS
        users = graph.users.get(node.output[0], [])
        if node.output[0] in outputs or not {user.op_type for user in users} <= wanted:
            yield _name(node), "pairs stand in front of products alone, never on an output"


def _static_shapes(graph: _Graph, _parser: Parser) -> Broken:
    for value in graph.model.graph.input:
        if any(dim.dim_value < 1 for dim in value.type.tensor_type.shape.dim):
            yield value.name, "the shape of an input must be fixed"


def _no_codebook(graph: _Graph, _parser: Parser) -> Broken:
    for node in graph.nodes:
        if node.op_type not in _PRODUCTS:
            continue
        maker = graph.maker.get(node.input[1])
        if maker is not None and maker.op_type == "Gather" and maker.input[0] in graph.initializers:
            yield _name(node), "a codebook is no type of TensorRT; put the centers on the int8 grid"


def _half_range(graph: _Graph, _parser: Parser) -> Broken:
    for name, tensor in graph.initializers.items():
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size and not np.abs(values).max() <= np.finfo(np.float16).max:
            yield name, "the values do not fit half precision"


_RULES: tuple[Rule, ...] = (
    _opset,
    _operators,
    _zero_points,
    _scales,
    _both_inputs,
    _weights,
    _placement,
    _static_shapes,
    _no_codebook,
    _half_range,
)


def _pairs(graph: _Graph) -> Iterator[onnx.NodeProto]:
    for node in graph.nodes:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            yield node


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    for attribute in node.attribute:
        if attribute.name == name:
            return int(attribute.i)
    return default
