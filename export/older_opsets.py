"""Operators of the default domain that older parsers do not have, said in those they do.

::

    Gelu(x)   = x * (1 + erf(x / sqrt 2)) / 2                        below opset 20
    norm(x)   = (x - mean) / sqrt(mean (x - mean)^2 + e) * w + b     below opset 17
    mean over axes: the axes are an attribute                        below opset 18
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import fx

from export.emitting import Context, Emitter, arguments, aten
from export.operators import EMITTERS

GELU_OPSET = 20
LAYER_NORM_OPSET = 17
REDUCE_INPUT_OPSET = 18


def emitters_at(opset: int) -> Mapping[Any, Emitter]:
    """The table of emitters that only use what `opset` has."""
    table = dict(EMITTERS)
    if opset < GELU_OPSET:
        table[aten.gelu.default] = _gelu
    if opset < REDUCE_INPUT_OPSET:
        table[aten.mean.dim] = _mean
    if opset < LAYER_NORM_OPSET:
        table[aten.native_layer_norm.default] = _layer_norm
    return table


def _gelu(context: Context, node: fx.Node) -> Sequence[str]:
    graph, x = context.graph, context.value(arguments(node)[0])
    scaled = graph.add("Mul", [x, graph.constant(np.array(1 / math.sqrt(2), np.float32))])
    raised = graph.add("Add", [graph.add("Erf", [scaled]), _float(context, 1.0)])
    return [graph.add("Mul", [graph.add("Mul", [x, raised]), _float(context, 0.5)])]


def _mean(context: Context, node: fx.Node) -> Sequence[str]:
    x, axes, keep = arguments(node, None, (), 0)
    return [
        context.graph.add("ReduceMean", [context.value(x)], axes=list(axes), keepdims=int(keep))
    ]


def _layer_norm(context: Context, node: fx.Node) -> Sequence[str]:
    # Written for the traced shape; the older targets are Jetsons, where reshapes are free.
    x, normalized, weight, bias, epsilon = arguments(node)
    add, axes = context.graph.add, list(range(-len(normalized), 0))
    value = context.value(x)
    mean = add("ReduceMean", [value], axes=axes, keepdims=1)
    centered = add("Sub", [value, mean])
    # A product, not a Pow: half precision engines compute Pow by way of logarithms.
    variance = add("ReduceMean", [add("Mul", [centered, centered])], axes=axes, keepdims=1)
    deviation = add("Sqrt", [add("Add", [variance, _float(context, float(epsilon))])])
    scaled = add("Mul", [add("Div", [centered, deviation]), context.value(weight)])
    return [add("Add", [scaled, context.value(bias)]), mean, deviation]


def _float(context: Context, value: float) -> str:
    return context.graph.constant(np.array(value, np.float32))
