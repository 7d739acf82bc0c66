"""How each ATen operator of an inference trace is said in TFLite. One function an operator.

::

    norm(x) = (x - mean) * rsqrt(mean (x - mean)^2 + e) * w + b

An emitter is `(context, node) -> tensors of the node's outputs`. A tensor may have another shape
than its node: reshapes are made when a value is used, so that chains of views cost one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import fx

from export.emitting import arguments, aten, shape_of
from export.tflite.graph import TfliteBuilder
from reefleet.errors import UnsupportedOperator

LINEAR = {"keepNumDims": False, "asymmetricQuantizeInputs": False}
_PERMUTE, _CONVOLUTION = aten.permute.default, aten.convolution.default
_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # of the channels
_VALID = 1  # the schema's Padding.VALID


class Context(Protocol):
    """What an emitter may ask of the lowering."""

    graph: TfliteBuilder

    def value(self, argument: Any, shape: Sequence[int] | None = None) -> int:
        """The tensor of an argument in its traced shape, or in another of the same size."""

    def loose(self, argument: Any) -> int:
        """The tensor of an argument in whatever shape it was made."""

    def weight(self, node: fx.Node) -> tuple[int, int]:
        """A matrix [out, in] for FULLY_CONNECTED from its transpose, and the operator's version."""

    def known(self, node: fx.Node) -> NDArray[Any]:
        """The values of a constant; raises UnsupportedOperator for what is computed."""


Emitter = Callable[[Context, fx.Node], Sequence[int]]


def _same(op: str, options: str | None = None) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[int]:
        x = context.value(arguments(node)[0])
        made: tuple[str, dict[str, Any]] | None = None if options is None else (options, {})
        return [context.graph.add(op, [x], shape_of(node), made)]

    return emit


def _binary(op: str) -> Emitter:
    def emit(context: Context, node: fx.Node) -> Sequence[int]:
        left, right = arguments(node)[0], arguments(node)[1]
        inputs = [context.value(left), context.value(right)]
        return [context.graph.add(op, inputs, shape_of(node), (f"{op.title()}Options", {}))]

    return emit


def _view(context: Context, node: fx.Node) -> Sequence[int]:
    return [context.loose(arguments(node)[0])]


def _expand(context: Context, node: fx.Node) -> Sequence[int]:
    source, shape = arguments(node)[0], shape_of(node)
    if np.prod(shape_of(source)) == np.prod(shape):
        return [context.loose(source)]
    wanted = context.graph.constant(np.array(shape, np.int32))
    return [context.graph.add("BROADCAST_TO", [context.value(source), wanted], shape)]


def _permute(context: Context, node: fx.Node) -> Sequence[int]:
    source, axes = arguments(node)
    if source.target is _CONVOLUTION or all(user.target is _CONVOLUTION for user in node.users):
        return [context.loose(source)]  # convolutions take and give their channels last
    shape = shape_of(source)
    order = [int(axis) % len(shape) for axis in axes]
    groups = _runs(order, shape)
    merged = [int(np.prod([shape[axis] for axis in group])) for group in sorted(groups)]
    rank = {group: position for position, group in enumerate(sorted(groups))}
    moved = [rank[group] for group in groups]
    value = context.value(source, merged)
    if moved == sorted(moved):
        return [value]
    inputs = [value, context.graph.constant(np.array(moved, np.int32))]
    extents = [merged[position] for position in moved]
    return [context.graph.add("TRANSPOSE", inputs, extents, ("TransposeOptions", {}))]


def _depthwise(context: Context, node: fx.Node) -> Sequence[int]:
    """A depthwise convolution between the transposes that TFLite's order of axes does without."""
    x, kernel, bias, stride, padding, dilation, transposed, _, groups = arguments(node)
    channels, last = shape_of(x)[1], list(_TO_LAST)
    follow = all(u.target is _PERMUTE and list(arguments(u)[1]) == last for u in node.users)
    leads = x.target is _PERMUTE and list(arguments(x)[1]) == list(_TO_FIRST)
    if transposed or groups != channels or shape_of(kernel)[0] != groups or not (follow and leads):
        msg = f"TFLite files hold depthwise convolutions over channels last; {node.name} is another"
        raise UnsupportedOperator(msg)
    source, add = arguments(x)[0], context.graph.add
    value, made = context.value(source), shape_of(source)
    if any(padding):
        # TFLite's own padding puts the odd zero of an even map and stride 2 at its other end.
        before = np.array([[0, 0], *([p, p] for p in padding), [0, 0]], np.int32)
        made = tuple(int(n + b) for n, b in zip(made, before.sum(1), strict=True))
        value = add("PAD", [value, context.graph.constant(before)], made, ("PadOptions", {}))
    weights = np.ascontiguousarray(context.known(kernel)[:, 0].transpose(1, 2, 0)[None])
    inputs = [value, context.graph.constant(weights), context.value(bias)]
    high, wide = (int(n) for n in stride)
    options = {"padding": _VALID, "strideH": high, "strideW": wide, "depthMultiplier": 1}
    options |= {"dilationHFactor": int(dilation[0]), "dilationWFactor": int(dilation[1])}
    shape = [shape_of(node)[axis] for axis in _TO_LAST]
    return [add("DEPTHWISE_CONV_2D", inputs, shape, ("DepthwiseConv2DOptions", options), 2)]


def _clamp(context: Context, node: fx.Node) -> Sequence[int]:
    x, low, high = arguments(node, None, None, None)
    op = {(0.0, 6.0): "RELU6", (0.0, None): "RELU"}.get((low, high))
    if op is None:
        msg = f"TFLite files clip to [0, 6] or at 0; {node.name} clips to [{low}, {high}]"
        raise UnsupportedOperator(msg)
    return [context.graph.add(op, [context.value(x)], shape_of(node))]


def _mean(context: Context, node: fx.Node) -> Sequence[int]:
    x, axes, keep = arguments(node, None, (), False)  # noqa: FBT003  # torch's order
    axis = context.graph.constant(np.array(axes, np.int32))
    options = ("ReducerOptions", {"keepDims": bool(keep)})
    return [context.graph.add("MEAN", [context.value(x), axis], shape_of(node), options)]


def _runs(order: Sequence[int], shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Axes that stay neighbours through a transpose, without axes of extent 1."""
    groups: list[tuple[int, ...]] = []
    solid = [axis for axis in range(len(shape)) if shape[axis] != 1]
    for axis in (axis for axis in order if shape[axis] != 1):
        if groups and solid.index(axis) == solid.index(groups[-1][-1]) + 1:
            groups[-1] = (*groups[-1], axis)
        else:
            groups.append((axis,))
    return groups or [(0,)]


def _slice(context: Context, node: fx.Node) -> Sequence[int]:
    source, axis, start, end, step = arguments(node, None, 0, 0, None, 1)
    extent = shape_of(source)[int(axis)]
    stop = extent if end is None else end
    bounds = slice(start, stop, step).indices(extent)
    return [_along(context, source, int(axis), bounds[0], bounds[1] - bounds[0])]


def _select(context: Context, node: fx.Node) -> Sequence[int]:
    source, axis, index = arguments(node)
    return [_along(context, source, int(axis), int(index) % shape_of(source)[int(axis)], 1)]


def _along(context: Context, source: fx.Node, axis: int, start: int, count: int) -> int:
    shape = shape_of(source)
    axis %= len(shape)
    if count == shape[axis]:
        return context.loose(source)
    outer, inner = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    begin = context.graph.constant(np.array([0, start, 0], np.int32))
    size = context.graph.constant(np.array([outer, count, inner], np.int32))
    value = context.value(source, (outer, shape[axis], inner))
    made = (outer, count, inner)
    return context.graph.add("SLICE", [value, begin, size], made, ("SliceOptions", {}))


def _concat(context: Context, node: fx.Node) -> Sequence[int]:
    parts, axis = arguments(node, None, 0)
    shape = shape_of(node)
    inputs = [context.value(part) for part in parts]
    options = ("ConcatenationOptions", {"axis": int(axis) % len(shape)})
    return [context.graph.add("CONCATENATION", inputs, shape, options)]


def _linear(context: Context, node: fx.Node) -> Sequence[int]:
    args = arguments(node)
    biased = node.target is aten.addmm.default
    x, matrix = args[1:3] if biased else args[:2]
    weight, version = context.weight(matrix)
    inputs = [context.value(x), weight, *([context.value(args[0])] if biased else [])]
    options = ("FullyConnectedOptions", LINEAR)
    return [context.graph.add("FULLY_CONNECTED", inputs, shape_of(node), options, version)]


def _bmm(context: Context, node: fx.Node) -> Sequence[int]:
    left, right = arguments(node)
    before, flipped = _swapped(right)
    shape = shape_of(right)
    wanted = (shape[0], shape[2], shape[1]) if flipped else shape
    inputs = [context.value(left), context.value(before, wanted)]
    options = ("BatchMatMulOptions", {"adjY": flipped})
    return [context.graph.add("BATCH_MATMUL", inputs, shape_of(node), options)]


def _swapped(node: fx.Node) -> tuple[fx.Node, bool]:
    """What `node` is before its last two axes were swapped, and whether they were."""
    source = node
    while source.target in {aten.view.default, aten.expand.default, aten.clone.default}:
        inner = arguments(source)[0]
        if shape_of(inner)[-2:] != shape_of(node)[-2:] or _size(inner) != _size(node):
            return node, False
        source = inner
    if source.target is aten.permute.default:
        before, axes = arguments(source)
        last = len(axes)
        if list(axes) == [*range(last - 2), last - 1, last - 2]:
            return before, True
    return node, False


def _size(node: fx.Node) -> int:
    return int(np.prod(shape_of(node)))


def _softmax(context: Context, node: fx.Node) -> Sequence[int]:
    x, axis = arguments(node)[:2]
    shape = shape_of(node)
    if int(axis) % len(shape) != len(shape) - 1:
        msg = "TFLite's softmax runs over the last axis alone"
        raise ValueError(msg)
    options = ("SoftmaxOptions", {"beta": 1.0})
    return [context.graph.add("SOFTMAX", [context.value(x)], shape, options)]


def _layer_norm(context: Context, node: fx.Node) -> Sequence[int]:
    x, _, weight, bias, epsilon = arguments(node)
    shape = shape_of(x)
    add = context.graph.add
    reduced = (*shape[:-1], 1)
    axis = context.graph.constant(np.array([len(shape) - 1], np.int32))
    mean_options = ("ReducerOptions", {"keepDims": True})
    value = context.value(x)
    mean = add("MEAN", [value, axis], reduced, mean_options)
    centered = add("SUB", [value, mean], shape, ("SubOptions", {}))
    squared = add("MUL", [centered, centered], shape, ("MulOptions", {}))
    variance = add("MEAN", [squared, axis], reduced, mean_options)
    raised = add("ADD", [variance, context.value(float(epsilon))], reduced, ("AddOptions", {}))
    scaled = add("MUL", [centered, add("RSQRT", [raised], reduced)], shape, ("MulOptions", {}))
    scaled = add("MUL", [scaled, context.value(weight)], shape, ("MulOptions", {}))
    return [add("ADD", [scaled, context.value(bias)], shape, ("AddOptions", {})), mean, raised]


EMITTERS: dict[Any, Emitter] = {
    aten.add.Tensor: _binary("ADD"),
    aten.sub.Tensor: _binary("SUB"),
    aten.mul.Tensor: _binary("MUL"),
    aten.div.Tensor: _binary("DIV"),
    aten.gelu.default: _same("GELU", "GeluOptions"),
    aten.mm.default: _linear,
    aten.addmm.default: _linear,
    aten.bmm.default: _bmm,
    aten.native_layer_norm.default: _layer_norm,
    getattr(aten, "_softmax").default: _softmax,  # noqa: B009  # a private name of torch
    aten.clamp.default: _clamp,
    _CONVOLUTION: _depthwise,
    aten.mean.dim: _mean,
    aten.alias.default: _view,
    aten.clone.default: _view,
    aten.detach.default: _view,
    aten.view.default: _view,
    aten.squeeze.dims: _view,
    aten.squeeze.dim: _view,
    aten.unsqueeze.default: _view,
    aten.expand.default: _expand,
    aten.permute.default: _permute,
    aten.select.int: _select,
    aten.slice.Tensor: _slice,
    aten.cat.default: _concat,
}
