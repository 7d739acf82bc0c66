"""Products and the moves around them in ONNX: linear layers, attention, queries, keys and values.

A product with a transposed matrix becomes one Gemm, or integers where the form of its weight says
so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from export.emitting import Context, arguments, aten, shape_of


def permute(context: Context, node: fx.Node) -> Sequence[str]:
    """A transpose, or one of a part where only the part is used."""
    source, axes = arguments(node)
    order = [int(axis) % len(axes) for axis in axes]
    if (found := _picked(context, source)) is not None:
        value, inner = found
        return [context.graph.add("Transpose", [value], perm=[inner[axis] for axis in order])]
    return [context.graph.add("Transpose", [context.value(source)], perm=order)]


def _picked(context: Context, node: fx.Node) -> tuple[str, list[int]] | None:
    """Before its transpose, a value selected from a transposed one, and that transpose.

    Selecting first moves a third as much where queries, keys and values come from one product.
    """
    if node.target is not aten.select.int:
        return None
    transposed, axis, index = arguments(node)
    if transposed.target is not aten.permute.default:
        return None
    source, axes = arguments(transposed)
    shape = shape_of(source)
    order = [int(a) % len(shape) for a in axes]
    chosen = order.pop(int(axis) % len(shape))
    inner = math.prod(shape[chosen + 1 :])
    width, first = shape[chosen] * inner, int(index) % shape[chosen] * inner
    table, made = context.loose(source)
    if made[-1] != width:
        wanted = (math.prod(shape[:chosen]), width)
        table, made = context.shaped(table, made, wanted), wanted
    ints = context.graph.ints
    last = ints(len(made) - 1)
    part = context.graph.add("Slice", [table, ints(first), ints(first + inner), last])
    rest = (*shape[:chosen], *shape[chosen + 1 :])
    order = [axis - (axis > chosen) for axis in order]
    return context.shaped(part, (*made[:-1], inner), rest), order


def matmul(context: Context, node: fx.Node) -> Sequence[str]:
    """A product of two matrices."""
    return _product(context, arguments(node)[0], arguments(node)[1], None)


def addmm(context: Context, node: fx.Node) -> Sequence[str]:
    """A product of two matrices, and a bias."""
    return _product(
        context, arguments(node)[1], arguments(node)[2], context.value(arguments(node)[0])
    )


def _product(context: Context, a: Any, b: fx.Node, bias: str | None) -> Sequence[str]:
    x, made = context.loose(a)
    if made[-1] != shape_of(a)[-1]:
        x, made = context.value(a), shape_of(a)
    integer = context.linear(x, b, bias)
    if integer is not None:
        return [context.remember(integer, (*made[:-1], shape_of(b)[1]))]
    plain_a, plain_b = context.transposed(a), context.transposed(b)
    inputs = [context.value(plain_a or a), context.value(plain_b or b)]
    if bias is not None:
        inputs.append(bias)
    return [
        context.graph.add(
            "Gemm", inputs, transA=int(plain_a is not None), transB=int(plain_b is not None)
        )
    ]


def bmm(context: Context, node: fx.Node) -> Sequence[str]:
    """Products of many matrices."""
    left, right = arguments(node)
    (a, a_made), (b, b_made) = context.loose(left), context.loose(right)
    # Matrices may lie deeper than the trace says, [B, H, ...] for [B * H, ...]: nothing to reshape.
    fits = a_made[:-2] == b_made[:-2]
    for made, wanted in ((a_made, shape_of(left)), (b_made, shape_of(right))):
        fits = fits and made[-2:] == wanted[-2:]
    if not fits:
        return [context.graph.add("MatMul", [context.value(left), context.value(right)])]
    product = context.graph.add("MatMul", [a, b])
    return [context.remember(product, (*a_made[:-2], *shape_of(node)[-2:]))]


def select(context: Context, node: fx.Node) -> Sequence[str]:
    """One position along an axis."""
    if (found := _picked(context, node)) is not None:
        return [context.graph.add("Transpose", [found[0]], perm=found[1])]
    x, axis, index = arguments(node)
    position = context.graph.constant(np.array(index, np.int64))
    return [context.graph.add("Gather", [context.value(x), position], axis=axis)]
