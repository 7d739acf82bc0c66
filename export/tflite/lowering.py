"""Lowering to TFLite: the ATen trace that becomes ONNX also becomes a flatbuffer."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from export.emitting import arguments, aten, shape_of
from export.quantize import INT4_BITS, INT4_LIMIT
from export.tflite.graph import INT4, TfliteBuilder, TfliteFile
from export.tflite.operators import EMITTERS
from export.trace import Trace
from export.weights import grid_of, grid_steps
from reefleet.errors import TensorMismatch, UnsupportedOperator
from reefleet.wire.tensors import CodebookTensor, EncodedTensor

# Operator versions that say "float activations, integer weights" to the resolvers.
_VERSIONS = {"int8": 3, INT4: 10}


def lower_tflite(
    traces: Mapping[str, Trace], tensors: Mapping[str, EncodedTensor], form: str
) -> bytes:
    """Lower each trace to the signature of that name, all in one file with the weights inside.

    `form` is float32, int8 or int4 for the quantized ones. Raises UnsupportedOperator, or
    TensorMismatch where a weight does not lie on the form's grid.
    """
    file = TfliteFile()
    for name, trace in traces.items():
        _Lowering(TfliteBuilder(file), trace, tensors, form).add(name)
    return file.finish()


class _Lowering:
    def __init__(
        self,
        graph: TfliteBuilder,
        trace: Trace,
        tensors: Mapping[str, EncodedTensor],
        form: str,
    ) -> None:
        self.graph = graph
        self._trace = trace
        self._tensors = tensors
        self._form = form
        self._made: dict[fx.Node, Sequence[int]] = {}
        self._constants: dict[fx.Node, Any] = {}
        self._names: dict[fx.Node, str] = {}
        self._reshaped: dict[tuple[int, tuple[int, ...]], int] = {}
        self._weights: dict[str, int] = {}

    def add(self, name: str) -> None:
        inputs = iter(self._trace.inputs)
        outputs: dict[str, int] = {}
        for node in self._trace.graph.nodes:
            if node.op == "placeholder":
                self._declare(node, next(inputs))
            elif node.op == "call_function":
                self._emit(node)
            else:
                results = arguments(node)[0]
                for output, result in zip(self._trace.outputs, results, strict=True):
                    outputs[output] = self.value(result)
        self.graph.finish(name, outputs)

    def loose(self, argument: Any) -> int:
        if not isinstance(argument, fx.Node):
            return self.graph.constant(np.array([argument], np.float32))
        if argument in self._constants:
            return self.graph.constant(self._constants[argument].numpy())
        return self._made[argument][0]

    def value(self, argument: Any, shape: Sequence[int] | None = None) -> int:
        tensor = self.loose(argument)
        if not isinstance(argument, fx.Node):
            return tensor
        wanted = tuple(shape_of(argument) if shape is None else shape)
        if self.graph.shape(tensor) == wanted:
            return tensor
        key = (tensor, wanted)
        if key not in self._reshaped:
            extents = self.graph.constant(np.array(wanted, np.int32))
            self._reshaped[key] = self.graph.add(
                "RESHAPE",
                [tensor, extents],
                wanted,
                ("ReshapeOptions", {"newShape": list(wanted)}),
            )
        return self._reshaped[key]

    def weight(self, node: fx.Node) -> tuple[int, int]:
        source = arguments(node)[0] if node.target is aten.permute.default else None
        name = None if source is None else self._names.get(source)
        tensor = None if name is None else self._tensors[name]
        if source is None or name is None:
            msg = f"TFLite multiplies by weights alone; {node.name} is a computed matrix"
            raise UnsupportedOperator(msg)
        if not isinstance(tensor, CodebookTensor) or self._form == "float32":
            return self.loose(source), 1
        # What has more bits than int4 holds, by role and not by plan, stays int8 beside it.
        kind = self._form if tensor.bits <= INT4_BITS else "int8"
        if name not in self._weights:
            self._weights[name] = self._integer(name, tensor, kind)
        return self._weights[name], _VERSIONS[kind]

    def known(self, node: fx.Node) -> NDArray[Any]:
        if node not in self._constants:
            msg = f"TFLite convolves with constant kernels alone; {node.name} is computed"
            raise UnsupportedOperator(msg)
        found: NDArray[Any] = self._constants[node].numpy()
        return found

    def _integer(self, name: str, tensor: CodebookTensor, kind: str) -> int:
        steps = grid_steps(name, tensor)
        if kind == INT4 and np.abs(steps.astype(np.int16)).max() > INT4_LIMIT:
            msg = f"{name!r} lies on the int8 grid; build with --form int4 to put it on int4's"
            raise TensorMismatch(msg)
        # A layer of zeros has scale zero, which the runtimes refuse; any scale stands for zeros.
        scale = grid_of(name, tensor).scale or 1.0
        return self.graph.weight(name, steps, [scale], kind)

    def _declare(self, node: fx.Node, name: str) -> None:
        if name in self._tensors:
            self._names[node] = name
            self._constants[node] = torch.from_numpy(self._tensors[name].decode())
        else:
            self._made[node] = [self.graph.input(name, shape_of(node))]

    def _emit(self, node: fx.Node) -> None:
        target: Any = node.target
        if target is operator.getitem:
            source, index = arguments(node)
            self._made[node] = [self._made[source][index]]
        elif all(source in self._constants for source in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._constants.__getitem__)
            self._constants[node] = target(*args, **kwargs)
        elif (emitter := EMITTERS.get(target)) is not None:
            self._made[node] = emitter(self, node)
        else:
            msg = f"the network uses {target}, which has no TFLite form here"
            raise UnsupportedOperator(msg)
