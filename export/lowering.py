"""Lowering: an ATen trace becomes an ONNX model for plain onnxruntime.

Written for training steps, which torch's own exporter re-traces at length (docs/decisions/0003).
An expression that occurs twice is computed once, constants are folded by evaluating them, a product
with a transposed matrix becomes one Gemm, and a linear layer whose weight lies on the int8 grid
becomes integer arithmetic.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx

from export.onnx_graph import GraphBuilder
from export.operators import EMITTERS, arguments, aten, dtype_of, shape_of
from export.trace import Trace
from reefleet.errors import UnsupportedOperator

_FOLD_LIMIT = 4096  # elements; larger constants are computed by the graph, not stored in it


def lower(
    trace: Trace,
    name: str,
    *,
    weights: frozenset[str] = frozenset(),
    int8: frozenset[str] = frozenset(),
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Lower `trace` to a model; raises UnsupportedOperator.

    Inputs named in `weights` become external initializers; those also in `int8` become int8
    matrices [in, out] with a float32 scalar NAME.scale.
    """
    return _Lowering(trace, weights, int8).model(name, metadata)


class _Lowering:
    def __init__(self, trace: Trace, weights: frozenset[str], int8: frozenset[str]) -> None:
        self.graph = GraphBuilder()
        self._trace = trace
        self._weights = weights
        self._int8 = int8
        self._names: dict[fx.Node, tuple[str, ...]] = {}
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
            return self._names[argument][0]
        dtype = np.dtype(np.float32) if like is None else dtype_of(like)
        return self.graph.constant(np.array(argument, dtype))

    def transposed(self, node: fx.Node) -> fx.Node | None:
        if node.target is not aten.permute.default:
            return None
        source, order = arguments(node)
        return source if order == [1, 0] else None

    def linear(self, x: str, node: fx.Node, bias: str | None) -> str | None:
        source = self.transposed(node)
        if source is None or self._input_names.get(source) not in self._int8:
            return None
        weight = self._input_names[source]
        add = self.graph.add
        values, scale, zero = self.graph.add_many("DynamicQuantizeLinear", [x], 3)
        no_offset = self.graph.constant(np.array(0, np.int8))
        product = add("MatMulInteger", [values, weight, zero, no_offset])
        product = add("Cast", [product], to=onnx.TensorProto.FLOAT)
        product = add("Mul", [product, add("Mul", [scale, f"{weight}.scale"])])
        return product if bias is None else add("Add", [product, bias])

    def _declare(self, node: fx.Node, name: str, example: torch.Tensor) -> None:
        self._input_names[node] = name
        self._names[node] = (name,)
        dtype, shape = example.numpy().dtype, tuple(example.shape)
        if name in self._int8:
            self.graph.external(name, np.dtype(np.int8), shape[::-1])
            self.graph.external(f"{name}.scale", np.dtype(np.float32), ())
        elif name in self._weights:
            self.graph.external(name, dtype, shape)
        else:
            self.graph.input(name, dtype, shape)

    def _emit(self, node: fx.Node) -> None:
        key = (node.target, *_key((node.args, node.kwargs), self._first))
        if (first := self._first.setdefault(key, node)) is not node:
            self._share(node, first)
        elif node.target is operator.getitem:
            self._take_item(node)
        elif self._fold(node):
            return
        elif (emitter := EMITTERS.get(node.target)) is not None:
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
