"""How each ATen operator of a trace is said in ONNX. One function an operator, one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from torch import fx

from export import convolutions, products
from export.emitting import Context, Emitter, arguments, aten, dtype_of, shape_of
from reefleet.model import Shape


def _operator(name: str) -> Any:
    return getattr(aten, name).default


def _same(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        return [context.graph.add(op, [context.value(a) for a in arguments(node)])]

    return emit


def _each(op: str) -> Emitter:
    """A function of single values, which may have any shape."""

    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        x, made = context.loose(arguments(node)[0])
        return [context.remember(context.graph.add(op, [x]), made)]

    return emit


def _binary(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        left, right = arguments(node)[0], arguments(node)[1]
        if (alpha := node.kwargs.get("alpha", 1)) != 1:
            scale = context.value(alpha, node)
            scaled = context.graph.add("Mul", [context.value(right, node), scale])
            return [context.graph.add(op, [context.value(left, node), scaled])]
        if (found := _alike(context, left, right)) is not None:
            inputs, made = found
            return [context.remember(context.graph.add(op, inputs), made)]
        like = _tensor(left) or _tensor(right) or node
        return [context.graph.add(op, [context.value(left, like), context.value(right, like)])]

    return emit


def _alike(context: Context, left: Any, right: Any) -> tuple[list[str], Shape] | None:
    """Two values of one shape but for leading ones, as they were made: nothing to reshape."""
    if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)):
        return None
    (a, a_made), (b, b_made) = context.loose(left), context.loose(right)
    if _size(a_made) < 2 or _solid(a_made) != _solid(b_made) or shape_of(left) != shape_of(right):
        return None
    return [a, b], max(a_made, b_made, key=len)


def _solid(shape: Shape) -> Shape:
    """A shape without its leading ones."""
    return shape[next((axis for axis, extent in enumerate(shape) if extent != 1), len(shape)) :]


def _size(shape: Shape) -> int:
    return math.prod(shape)


def _tensor(argument: Any) -> fx.Node | None:
    return argument if isinstance(argument, fx.Node) else None


def _to_copy(context: Context, node: fx.Node) -> Sequence[str]:
    source = arguments(node)[0]
    value = context.value(source)
    if isinstance(source, fx.Node) and dtype_of(source) == dtype_of(node):
        return _reshape(context, node)
    return [context.graph.add("Cast", [value], to=helper.np_dtype_to_tensor_dtype(dtype_of(node)))]


def _reshape(context: Context, node: fx.Node) -> Sequence[str]:
    source = arguments(node)[0]
    if not isinstance(source, fx.Node):
        return [context.value(source)]
    return [context.remember(*context.loose(source))]


def _expand(context: Context, node: fx.Node) -> Sequence[str]:
    source = arguments(node)[0]
    if isinstance(source, fx.Node) and math.prod(shape_of(source)) == math.prod(shape_of(node)):
        return _reshape(context, node)
    return [
        context.graph.add("Expand", [context.value(source), context.graph.ints(*shape_of(node))])
    ]


def _layer_norm(context: Context, node: fx.Node) -> Sequence[str]:
    x, normalized, weight, bias, epsilon = arguments(node)
    value, made = context.loose(x)
    if len(normalized) > 1 or made[-1] != normalized[0]:
        value, made = context.value(x), shape_of(x)
    axis = {} if len(normalized) == 1 else {"axis": -len(normalized)}  # the last by default
    found = context.graph.add_many(
        "LayerNormalization",
        [value, context.value(weight), context.value(bias)],
        3,
        epsilon=float(epsilon),
        **axis,
    )
    context.remember(found[0], made)
    for statistic in found[1:]:
        context.remember(statistic, (*made[: -len(normalized)], *(1 for _ in normalized)))
    return found


def _softmax(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[str]:
        x, axis = arguments(node)[:2]
        last = axis % len(shape_of(node)) == len(shape_of(node)) - 1
        return [context.graph.add(op, [context.value(x)], **({} if last else {"axis": axis}))]

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


def _slice(context: Context, node: fx.Node) -> Sequence[str]:
    source, axis, start, end, step = arguments(node, None, 0, 0, None, 1)
    if shape_of(source) == shape_of(node):
        return [context.value(source)]
    extent = shape_of(source)[int(axis)]
    ints = context.graph.ints
    last = extent if end is None else min(int(end), extent)
    steps = [] if step == 1 else [ints(int(step))]
    bounds = [ints(int(start or 0)), ints(last), ints(int(axis)), *steps]
    return [context.graph.add("Slice", [context.value(source), *bounds])]


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
    aten.add_.Tensor: _binary("Add"),  # autograd, on a sum that nothing else reads
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
    aten.ge.Scalar: _binary("GreaterOrEqual"),
    aten.le.Scalar: _binary("LessOrEqual"),
    aten.logical_and_.default: _same("And"),
    aten.where.self: _same("Where"),
    aten.neg.default: _each("Neg"),
    aten.exp.default: _each("Exp"),
    aten.erf.default: _each("Erf"),
    aten.sigmoid.default: _each("Sigmoid"),
    aten.bmm.default: products.bmm,
    aten.gelu.default: _each("Gelu"),
    aten.mm.default: products.matmul,
    aten.addmm.default: products.addmm,
    aten.native_layer_norm.default: _layer_norm,
    _operator("_softmax"): _softmax("Softmax"),
    _operator("_log_softmax"): _softmax("LogSoftmax"),
    aten.sum.dim_IntList: _reduce("ReduceSum"),
    aten.sum.default: _reduce("ReduceSum"),
    aten.mean.default: _reduce("ReduceMean"),
    aten.mean.dim: _reduce("ReduceMean"),
    aten.argmin.default: _argmin,
    aten.alias.default: _reshape,
    aten.clone.default: _reshape,
    aten.detach.default: _reshape,
    _operator("_to_copy"): _to_copy,
    aten.view.default: _reshape,
    aten.squeeze.dims: _reshape,
    aten.squeeze.dim: _reshape,
    aten.unsqueeze.default: _reshape,
    aten.expand.default: _expand,
    aten.permute.default: products.permute,
    aten.select.int: products.select,
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
    **convolutions.EMITTERS,
}
