"""A small builder of ONNX graphs: nodes, shared constants, weights, pruning.

Opset 20 and IR 10 unless told otherwise, which every runtime since onnxruntime 1.17 reads; only the
default domain.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10
OLD_IR_VERSION = 7  # of opset 13's time; old parsers read no newer one
EXTERNAL_LOCATION = "weights.rft"
_DIGITS = string.digits + string.ascii_letters

Array = NDArray[Any]


class GraphBuilder:
    """Collects nodes in order; `finish` prunes what no output needs and gives the model."""

    def __init__(self, opset: int = OPSET) -> None:
        """Start an empty graph of the default domain at `opset`."""
        self.opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._short: dict[str, str] = {}
        self._fresh = 0

    def fresh(self) -> str:
        """A value name that nothing else has, short: at few bits names would outweigh codes."""
        rest, digits = self._fresh, ""
        while rest or not digits:
            rest, digit = divmod(rest, len(_DIGITS))
            digits = _DIGITS[digit] + digits
        self._fresh += 1
        return f"_{digits}"

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Append a node and return its first output's name."""
        return self.add_many(op, inputs, outputs, **attributes)[0]

    def add_many(
        self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """Append a node and return the names of all its outputs."""
        names = [self.fresh() for _ in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def name_output(self, value: str, name: str) -> None:
        """Give the last node's output `value` a name that other nodes will use."""
        self._nodes[-1].output[list(self._nodes[-1].output).index(value)] = name

    def initializer(self, name: str, value: Array) -> None:
        """Store a weight under its own name."""
        self._initializers.append(numpy_helper.from_array(value, name))

    def shorten(self, name: str) -> None:
        """Let the file hold a value under a short name, for no reader asks for its own."""
        self._short[name] = self.fresh()

    def alias(self, name: str, value: str) -> None:
        """Make `value` available as the graph output `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def constant(self, value: Array) -> str:
        """Name of an initializer with this value; equal constants are stored once."""
        array = np.asarray(value, order="C")  # ascontiguousarray would give a scalar an axis
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.fresh()
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """An int64 vector constant: axes, shapes, bounds."""
        return self.constant(np.array(values, np.int64))

    def input(self, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """Declare a graph input."""
        self._inputs.append(_value_info(name, dtype, shape))

    def output(self, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """Declare a graph output."""
        self._outputs.append(_value_info(name, dtype, shape))

    def external(self, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """Declare a weight whose bytes are supplied when the session is opened."""
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(dtype),
            dims=list(shape),
            data_location=TensorProto.EXTERNAL,
        )
        size = int(np.prod(shape)) * dtype.itemsize
        for key, value in (
            ("location", EXTERNAL_LOCATION),
            ("offset", "0"),
            ("length", str(size)),
        ):
            tensor.external_data.add(key=key, value=value)
        self._initializers.append(tensor)

    def finish(self, name: str, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The model, without nodes and initializers that no output needs."""
        needed = {value.name for value in self._outputs}
        kept: list[onnx.NodeProto] = []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                while node.op_type == "LayerNormalization" and node.output[-1] not in needed:
                    node.output.pop()  # the statistics are optional
                kept.append(node)
                needed.update(node.input)
        initializers = [tensor for tensor in self._initializers if tensor.name in needed]
        self._rename(kept, initializers)
        graph = helper.make_graph(
            kept[::-1],
            name,
            self._inputs,
            self._outputs,
            initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="reefleet"
        )
        model.ir_version = IR_VERSION if self.opset >= OPSET else OLD_IR_VERSION
        helper.set_model_props(model, dict(metadata or {}))
        return model

    def _rename(self, nodes: Sequence[onnx.NodeProto], stored: Sequence[onnx.TensorProto]) -> None:
        short = self._short
        for node in nodes:
            node.input[:] = [short.get(name, name) for name in node.input]
            node.output[:] = [short.get(name, name) for name in node.output]
        for tensor in stored:
            tensor.name = short.get(tensor.name, tensor.name)


def _value_info(name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(dtype), [int(extent) for extent in shape]
    )
