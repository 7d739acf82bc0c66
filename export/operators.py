"""How each ATen operator of a trace is said in ONNX. One function an operator, one table.

An emitter is `(context, node) -> names of the node's outputs`; the context gives values by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from onnx import helper
from torch import fx

from export.onnx_graph import GraphBuilder

aten: Any = torch.ops.aten


class Context(Protocol):
    """What an emitter may ask of the lowering."""

    graph: GraphBuilder

    def value(self, argument: Any, like: fx.Node | None = None) -> str:
        """Name of an argument's value; a Python number becomes a constant of `like`'s type."""

    def linear(self, x: str, node: fx.Node, bias: str | None) -> str | None:
        """An integer form of x @ node (+ bias) where `node` is a quantized weight, else None."""

    def transposed(self, node: fx.Node) -> fx.Node | None:
        """The matrix that `node` merely transposes, if it does."""


Emitter = Callable[[Context, fx.Node], Sequence[str]]

DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.int64: np.dtype(np.int64),
    torch.bool: np.dtype(np.bool_),
}


def _operator(name: str) -> Any:
    return getattr(aten, name).default


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Static shape of a traced value."""
    return tuple(int(extent) for extent in node.meta["val"].shape)


def arguments(node: fx.Node, *defaults: Any) -> tuple[Any, ...]:
    """Positional arguments of a traced call, filled up with the defaults of the schema."""
    return (*node.args, *defaults[len(node.args) :])


def dtype_of(node: fx.Node) -> np.dtype[Any]:
    """Element type of a traced value."""
    return DTYPES[node.meta["val"].dtype]


def _same(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        return [context.graph.add(op, [context.value(a) for a in arguments(node)])]

    return emit


def _binary(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        left, right = arguments(node)[0], arguments(node)[1]
        if (alpha := node.kwargs.get("alpha", 1)) != 1:
            scale = context.value(alpha, node)
            scaled = context.graph.add("Mul", [context.value(right, node), scale])
            return [context.graph.add(op, [context.value(left, node), scaled])]
        like = _tensor(left) or _tensor(right) or node
        return [context.graph.add(op, [context.value(left, like), context.value(right, like)])]

    return emit


def _tensor(argument: Any) -> fx.Node | None:
    return argument if isinstance(argument, fx.Node) else None


def _alias(context: Context, node: fx.Node) -> Sequence[str]:
    return [context.value(arguments(node)[0])]


def _to_copy(context: Context, node: fx.Node) -> Sequence[str]:
    source = arguments(node)[0]
    value = context.value(source)
    if isinstance(source, fx.Node) and dtype_of(source) == dtype_of(node):
        return [value]
    return [context.graph.add("Cast", [value], to=helper.np_dtype_to_tensor_dtype(dtype_of(node)))]


def _reshape(context: Context, node: fx.Node) -> Sequence[str]:
    source = arguments(node)[0]
    if isinstance(source, fx.Node) and shape_of(source) == shape_of(node):
        return [context.value(source)]
    return [
        context.graph.add("Reshape", [context.value(source), context.graph.ints(*shape_of(node))])
    ]


def _expand(context: Context, node: fx.Node) -> Sequence[str]:
    source = arguments(node)[0]
    if isinstance(source, fx.Node) and shape_of(source) == shape_of(node):
        return [context.value(source)]
    return [
        context.graph.add("Expand", [context.value(source), context.graph.ints(*shape_of(node))])
    ]


def _permute(context: Context, node: fx.Node) -> Sequence[str]:
    order = [int(axis) for axis in arguments(node)[1]]
    rank = len(order)
    return [
        context.graph.add(
            "Transpose", [context.value(arguments(node)[0])], perm=[axis % rank for axis in order]
        )
    ]


def _matmul(context: Context, node: fx.Node) -> Sequence[str]:
    return _product(context, arguments(node)[0], arguments(node)[1], None)


def _addmm(context: Context, node: fx.Node) -> Sequence[str]:
    return _product(
        context, arguments(node)[1], arguments(node)[2], context.value(arguments(node)[0])
    )


def _product(context: Context, a: Any, b: fx.Node, bias: str | None) -> Sequence[str]:
    integer = context.linear(context.value(a), b, bias)
    if integer is not None:
        return [integer]
    plain_a, plain_b = context.transposed(a), context.transposed(b)
    inputs = [context.value(plain_a or a), context.value(plain_b or b)]
    if bias is not None:
        inputs.append(bias)
    return [
        context.graph.add(
            "Gemm", inputs, transA=int(plain_a is not None), transB=int(plain_b is not None)
        )
    ]


def _layer_norm(context: Context, node: fx.Node) -> Sequence[str]:
    x, normalized, weight, bias, epsilon = arguments(node)
    return context.graph.add_many(
        "LayerNormalization",
        [context.value(x), context.value(weight), context.value(bias)],
        3,
        axis=-len(normalized),
        epsilon=float(epsilon),
    )


def _softmax(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        return [context.graph.add(op, [context.value(arguments(node)[0])], axis=arguments(node)[1])]

    return emit


def _reduce(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        x, axes, keep = arguments(node, None, (), 0)
        inputs = [context.value(x)]
        if axes:
            inputs.append(context.graph.ints(*axes))
        return [context.graph.add(op, inputs, keepdims=int(keep))]

    return emit


def _argmin(context: Context, node: fx.Node) -> Sequence[str]:
    x, axis = arguments(node, None, None)
    value = context.value(x)
    if axis is None:
        value, axis = context.graph.add("Reshape", [value, context.graph.ints(-1)]), 0
    return [context.graph.add("ArgMin", [value], axis=axis, keepdims=0)]


def _select(context: Context, node: fx.Node) -> Sequence[str]:
    x, axis, index = arguments(node)
    position = context.graph.constant(np.array(index, np.int64))
    return [context.graph.add("Gather", [context.value(x), position], axis=axis)]


def _slice(context: Context, node: fx.Node) -> Sequence[str]:
    source, axis, start, end, step = arguments(node, None, 0, 0, None, 1)
    if shape_of(source) == shape_of(node):
        return [context.value(source)]
    extent = shape_of(source)[int(axis)]
    ints = context.graph.ints
    bounds = [int(start or 0), extent if end is None else min(int(end), extent)]
    return [
        context.graph.add(
            "Slice",
            [
                context.value(source),
                ints(bounds[0]),
                ints(bounds[1]),
                ints(int(axis)),
                ints(int(step)),
            ],
        )
    ]


def _select_backward(context: Context, node: fx.Node) -> Sequence[str]:
    gradient, sizes, axis, index = arguments(node)
    axis = int(axis) % len(sizes)
    wide = context.graph.add("Unsqueeze", [context.value(gradient), context.graph.ints(axis)])
    start = int(index) % int(sizes[axis])
    return [_pad(context, wide, sizes, axis, start, start + 1)]


def _slice_backward(context: Context, node: fx.Node) -> Sequence[str]:
    gradient, sizes, axis, start, end, step = arguments(node)
    if step != 1:
        msg = "a slice with a step has no gradient on the board"
        raise ValueError(msg)
    axis = int(axis) % len(sizes)
    extent = int(sizes[axis])
    bounds = slice(start, end).indices(extent)
    return [_pad(context, context.value(gradient), sizes, axis, bounds[0], bounds[1])]


def _pad(context: Context, value: str, sizes: Any, axis: int, start: int, end: int) -> str:
    rank, extent = len(sizes), int(sizes[axis])
    if start == 0 and end == extent:
        return value
    before, after = [0] * rank, [0] * rank
    before[axis], after[axis] = start, extent - end
    return context.graph.add("Pad", [value, context.graph.ints(*before, *after)])


def _concat(context: Context, node: fx.Node) -> Sequence[str]:
    parts, axis = arguments(node, None, 0)
    return [context.graph.add("Concat", [context.value(part) for part in parts], axis=axis)]


def _unsqueeze(context: Context, node: fx.Node) -> Sequence[str]:
    rank = len(shape_of(node))
    axis = int(arguments(node)[1]) % rank
    return [
        context.graph.add(
            "Unsqueeze", [context.value(arguments(node)[0]), context.graph.ints(axis)]
        )
    ]


def _gather(context: Context, node: fx.Node) -> Sequence[str]:
    x, axis, index = arguments(node)
    op = "Gather" if len(shape_of(x)) == 1 else "GatherElements"
    return [context.graph.add(op, [context.value(x), context.value(index)], axis=axis)]


def _scatter_add(context: Context, node: fx.Node) -> Sequence[str]:
    base, axis, index, source = arguments(node)
    inputs = [context.value(base), context.value(index), context.value(source)]
    return [context.graph.add("ScatterElements", inputs, axis=axis, reduction="add")]


def _sort(context: Context, node: fx.Node) -> Sequence[str]:
    x, axis, descending = arguments(node, None, -1, 0)
    extent = context.graph.ints(shape_of(x)[int(axis)])
    return context.graph.add_many(
        "TopK", [context.value(x), extent], 2, axis=axis, largest=int(bool(descending)), sorted=1
    )


def _clamp(context: Context, node: fx.Node) -> Sequence[str]:
    x, low, high = arguments(node, None, None, None)
    low = node.kwargs.get("min", low)
    high = node.kwargs.get("max", high)
    bounds = ["" if bound is None else context.value(bound, x) for bound in (low, high)]
    return [context.graph.add("Clip", [context.value(x), *bounds])]


def _full(context: Context, node: fx.Node) -> Sequence[str]:
    value = onnx.numpy_helper.from_array(np.array([arguments(node)[1]], dtype_of(node)))
    shape = context.graph.ints(*shape_of(node))
    return [context.graph.add("ConstantOfShape", [shape], value=value)]


EMITTERS: dict[Any, Emitter] = {
    aten.add.Tensor: _binary("Add"),
    aten.sub.Tensor: _binary("Sub"),
    aten.mul.Tensor: _binary("Mul"),
    aten.div.Tensor: _binary("Div"),
    aten.div.Scalar: _binary("Div"),
    aten.mul.Scalar: _binary("Mul"),
    aten.add.Scalar: _binary("Add"),
    aten.sub.Scalar: _binary("Sub"),
    aten.maximum.default: _binary("Max"),
    aten.minimum.default: _binary("Min"),
    aten.eq.Tensor: _binary("Equal"),
    aten.eq.Scalar: _binary("Equal"),
    aten.gt.Tensor: _binary("Greater"),
    aten.gt.Scalar: _binary("Greater"),
    aten.where.self: _same("Where"),
    aten.neg.default: _same("Neg"),
    aten.exp.default: _same("Exp"),
    aten.erf.default: _same("Erf"),
    aten.sigmoid.default: _same("Sigmoid"),
    aten.bmm.default: _same("MatMul"),
    aten.gelu.default: lambda context, node: [
        context.graph.add("Gelu", [context.value(arguments(node)[0])])
    ],
    aten.mm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.native_layer_norm.default: _layer_norm,
    _operator("_softmax"): _softmax("Softmax"),
    _operator("_log_softmax"): _softmax("LogSoftmax"),
    aten.sum.dim_IntList: _reduce("ReduceSum"),
    aten.sum.default: _reduce("ReduceSum"),
    aten.mean.default: _reduce("ReduceMean"),
    aten.mean.dim: _reduce("ReduceMean"),
    aten.argmin.default: _argmin,
    aten.alias.default: _alias,
    aten.clone.default: _alias,
    aten.detach.default: _alias,
    _operator("_to_copy"): _to_copy,
    aten.view.default: _reshape,
    aten.squeeze.dims: _reshape,
    aten.squeeze.dim: _reshape,
    aten.unsqueeze.default: _unsqueeze,
    aten.expand.default: _expand,
    aten.permute.default: _permute,
    aten.select.int: _select,
    aten.select_backward.default: _select_backward,
    aten.slice.Tensor: _slice,
    aten.slice_backward.default: _slice_backward,
    aten.cat.default: _concat,
    aten.gather.default: _gather,
    aten.scatter_add.default: _scatter_add,
    aten.sort.default: _sort,
    aten.clamp.default: _clamp,
    aten.full.default: _full,
    aten.full_like.default: _full,
}
