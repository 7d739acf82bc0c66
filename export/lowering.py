"""Lowering: an ATen trace becomes an ONNX model for plain onnxruntime.

Written for training steps, which torch's own exporter re-traces at length (docs/decisions/0003).
An expression that occurs twice is computed once, constants are folded by evaluating them, a product
with a transposed matrix becomes one Gemm, and a linear layer becomes integer arithmetic where the
form of its weight says so.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx

from export.emitting import arguments, aten, dtype_of, shape_of
from export.older_opsets import emitters_at
from export.onnx_graph import OPSET, GraphBuilder
from export.trace import Trace
from export.weights import AsInputs, WeightForm
from reefleet.errors import UnsupportedOperator
from reefleet.model import Shape

_FOLD_LIMIT = 4096  # elements; larger constants are computed by the graph, not stored in it


def lower(
    trace: Trace,
    name: str,
    weights: WeightForm | None = None,
    *,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Lower `trace` to a model at `opset`, its weights held in that form.

    Raises UnsupportedOperator.
    """
    return _Lowering(trace, weights or AsInputs(), opset).model(name, metadata)


class _Lowering:
    def __init__(self, trace: Trace, weights: WeightForm, opset: int) -> None:
        self.graph = GraphBuilder(opset)
        self._trace = trace
        self._weights = weights
        self._emitters = emitters_at(opset)
        self._names: dict[fx.Node, tuple[str, ...]] = {}
        self._made: dict[str, Shape] = {}  # where it is not the shape of the node
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self._folded: dict[fx.Node, Any] = {}
        self._input_names: dict[fx.Node, str] = {}
        self._first: dict[Any, fx.Node] = {}

    def model(self, name: str, metadata: Mapping[str, str] | None) -> onnx.ModelProto:
        inputs = iter(self._trace.inputs.items())
        for node in self._trace.graph.nodes:
            if node.op == "placeholder":
                self._declare(node, *next(inputs))
            elif node.op == "call_function":
                self._emit(node)
            elif node.op == "output":
                self._finish(node)
            else:
                msg = f"the traced step holds a {node.op} node ({node.target}), which has no graph"
                raise UnsupportedOperator(msg)
        return self.graph.finish(name, metadata)

    def value(self, argument: Any, like: fx.Node | None = None) -> str:
        if isinstance(argument, fx.Node):
            if argument in self._folded:
                return self.graph.constant(self._folded[argument].numpy())
            return self.shaped(*self.loose(argument), shape_of(argument))
        dtype = np.dtype(np.float32) if like is None else dtype_of(like)
        return self.graph.constant(np.array(argument, dtype))

    def loose(self, node: fx.Node) -> tuple[str, Shape]:
        if node in self._folded:
            return self.value(node), shape_of(node)
        name = self._names[node][0]
        return name, self._made.get(name, shape_of(node))

    def shaped(self, name: str, made: Shape, wanted: Shape) -> str:
        if made == wanted:
            return name
        key = (name, wanted)
        if key not in self._reshaped:
            self._reshaped[key] = self.graph.add("Reshape", [name, self.graph.ints(*wanted)])
        return self._reshaped[key]

    def remember(self, name: str, shape: Shape) -> str:
        self._made[name] = shape
        return name

    def transposed(self, node: fx.Node) -> fx.Node | None:
        if node.target is not aten.permute.default:
            return None
        source, order = arguments(node)
        return source if order == [1, 0] else None

    def linear(self, x: str, node: fx.Node, bias: str | None) -> str | None:
        source = self.transposed(node)
        name = None if source is None else self._input_names.get(source)
        return None if name is None else self._weights.linear(self.graph, x, name, bias)

    def _declare(self, node: fx.Node, name: str, example: torch.Tensor) -> None:
        self._input_names[node] = name
        self._names[node] = (name,)
        shape = tuple(example.shape)
        if not self._weights.declare(self.graph, name, shape):
            self.graph.input(name, example.numpy().dtype, shape)

    def _emit(self, node: fx.Node) -> None:
        key = (node.target, *_key((node.args, node.kwargs), self._first))
        if (first := self._first.setdefault(key, node)) is not node:
            self._share(node, first)
        elif node.target is operator.getitem:
            self._take_item(node)
        elif self._fold(node):
            return
        elif (emitter := self._emitters.get(node.target)) is not None:
            self._names[node] = tuple(emitter(self, node))
        else:
            msg = f"the step uses {node.target}, which the compiler does not lower"
            raise UnsupportedOperator(msg)

    def _share(self, node: fx.Node, first: fx.Node) -> None:
        self._first[node] = first
        if first in self._folded:
            self._folded[node] = self._folded[first]
        else:
            self._names[node] = self._names[first]

    def _take_item(self, node: fx.Node) -> None:
        source, index = arguments(node)
        self._names[node] = (self._names[source][index],)

    def _fold(self, node: fx.Node) -> bool:
        nodes, call = node.all_input_nodes, node.target
        made = node.meta.get("val")
        small = isinstance(made, torch.Tensor) and made.numel() <= _FOLD_LIMIT
        if not small or not callable(call) or any(n not in self._folded for n in nodes):
            return False
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._folded.__getitem__)
        self._folded[node] = call(*args, **kwargs)
        return True

    def _finish(self, node: fx.Node) -> None:
        results = arguments(node)[0]
        for name, result in zip(self._trace.outputs, results, strict=True):
            self.graph.alias(name, self.value(result))
            self.graph.output(name, dtype_of(result), shape_of(result))


def _key(argument: Any, first: Mapping[Any, fx.Node]) -> Any:
    """A hashable form of an argument in which equal expressions are the same node."""
    if isinstance(argument, fx.Node):
        return first.get(argument, argument)
    if isinstance(argument, list | tuple):
        return tuple(_key(item, first) for item in argument)
    if isinstance(argument, dict):
        return tuple((name, _key(item, first)) for name, item in sorted(argument.items()))
    return (type(argument), argument)
