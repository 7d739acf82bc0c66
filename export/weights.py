"""Where the weights of an ONNX graph are, and how its linear layers multiply by them.

A form takes the graph inputs that are weights. Quantized weights lie on the int8 grid of their
packed tensor, exactly, in every form; activations are rounded when the graph runs (dynamic) or with
scales found by calibration (`export.static_quantization`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_graph import GraphBuilder
from reefleet.errors import TensorMismatch
from reefleet.model import Shape
from reefleet.wire.bitpack import pack
from reefleet.wire.codebook import Grid
from reefleet.wire.tensors import CodebookTensor, EncodedTensor

_BYTE = 8


class WeightForm(Protocol):
    """How one graph holds its weights."""

    def declare(self, graph: GraphBuilder, name: str, shape: Shape) -> bool:
        """Add the weight `name`; False leaves it an input of the graph."""

    def linear(self, graph: GraphBuilder, x: str, name: str, bias: str | None) -> str | None:
        """An integer form of x @ transposed weight (+ bias), None for a float product."""


class AsInputs:
    """Every value is fed: training steps and the batch graph."""

    def declare(self, graph: GraphBuilder, name: str, shape: Shape) -> bool:  # noqa: ARG002
        """Nothing is taken."""
        return False

    def linear(self, graph: GraphBuilder, x: str, name: str, bias: str | None) -> str | None:  # noqa: ARG002
        """Every product is float."""
        return None


class External:
    """Weights supplied when the session opens; `int8` ones as grid steps [in, out] and a scale."""

    def __init__(self, names: frozenset[str], int8: frozenset[str]) -> None:
        """Take the names of all weights and of those on the grid."""
        self._names = names
        self._int8 = int8

    def declare(self, graph: GraphBuilder, name: str, shape: Shape) -> bool:
        """Declare without bytes."""
        if name in self._int8:
            graph.external(name, np.dtype(np.int8), shape[::-1])
            graph.external(f"{name}.scale", np.dtype(np.float32), ())
        elif name in self._names:
            graph.external(name, np.dtype(np.float32), shape)
        else:
            return False
        return True

    def linear(self, graph: GraphBuilder, x: str, name: str, bias: str | None) -> str | None:
        """Integer for the weights on the grid."""
        return dynamic(graph, x, name, f"{name}.scale", bias) if name in self._int8 else None


class Embedded:
    """Float32 weights inside the file."""

    def __init__(self, tensors: Mapping[str, EncodedTensor]) -> None:
        """Take the packed tensors of the sub-model."""
        self._tensors = tensors

    def declare(self, graph: GraphBuilder, name: str, shape: Shape) -> bool:  # noqa: ARG002
        """Store the decoded values."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return False
        graph.initializer(name, np.ascontiguousarray(tensor.decode()))
        return True

    def linear(self, graph: GraphBuilder, x: str, name: str, bias: str | None) -> str | None:  # noqa: ARG002
        """Every product is float."""
        return None


class EmbeddedInt8(Embedded):
    """Weights inside the file; those on the grid as int8 [in, out], multiplied as integers."""

    def declare(self, graph: GraphBuilder, name: str, shape: Shape) -> bool:
        """Store grid steps, or floats for what is not quantized."""
        tensor = self._tensors.get(name)
        if not isinstance(tensor, CodebookTensor):
            return super().declare(graph, name, shape)
        grid = grid_of(name, tensor)
        self._store(graph, name, tensor, grid)
        graph.initializer(f"{name}.scale", np.array(grid.scale, np.float32))
        return True

    def linear(self, graph: GraphBuilder, x: str, name: str, bias: str | None) -> str | None:
        """Integer for the weights on the grid."""
        if not isinstance(self._tensors.get(name), CodebookTensor):
            return None
        return dynamic(graph, x, name, f"{name}.scale", bias)

    def _store(self, graph: GraphBuilder, name: str, tensor: CodebookTensor, grid: Grid) -> None:
        graph.initializer(name, np.ascontiguousarray(grid.steps[tensor.codes].T))


class Packed(EmbeddedInt8):
    """Weights inside the file as b-bit codes, least significant bit first, and their centers.

    A few integer operators of the default domain unpack them; the runtime folds these once, when
    the file is opened, and multiplies int8 from then on.
    """

    def _store(self, graph: GraphBuilder, name: str, tensor: CodebookTensor, grid: Grid) -> None:
        codes = np.ascontiguousarray(tensor.codes.T)
        stream = np.frombuffer(pack(codes.reshape(-1), tensor.bits), np.uint8)
        graph.initializer(f"{name}.codes", stream)
        values = _unpacked(graph, f"{name}.codes", len(stream), codes.size, tensor.bits)
        index = graph.add("Reshape", [values, graph.ints(*codes.shape)])
        graph.initializer(f"{name}.centers", grid.steps)
        graph.name_output(graph.add("Gather", [f"{name}.centers", index]), name)


def _unpacked(graph: GraphBuilder, stream: str, length: int, count: int, bits: int) -> str:
    """Codes int32 [count] from a stream of `length` bytes."""
    add, ints = graph.add, graph.ints
    # Digits of one bit each, unless codes never cross a byte: that takes b times the memory.
    digit = bits if _BYTE % bits == 0 else 1
    places = graph.constant(np.arange(0, _BYTE, digit, dtype=np.uint8))
    mask = graph.constant(np.array([(1 << digit) - 1], np.uint8))
    column = add("Reshape", [stream, ints(length, 1)])
    shifted = add("BitShift", [column, places], direction="RIGHT")
    flat = add("Reshape", [add("BitwiseAnd", [shifted, mask]), ints(-1)])
    flat = add("Slice", [flat, ints(0), ints(count * bits // digit)])
    digits = add("Cast", [flat], to=onnx.TensorProto.INT32)
    if digit == bits:
        return digits
    powers = graph.constant(1 << np.arange(bits, dtype=np.int32))
    weighted = add("Mul", [add("Reshape", [digits, ints(count, bits)]), powers])
    return add("ReduceSum", [weighted, ints(1)], keepdims=0)


def dynamic(graph: GraphBuilder, x: str, weight: str, scale: str, bias: str | None) -> str:
    """X @ int8 weight [in, out] * scale (+ bias), with activations rounded to 8 bits on the run."""
    add = graph.add
    values, step, zero = graph.add_many("DynamicQuantizeLinear", [x], 3)
    no_offset = graph.constant(np.array(0, np.int8))
    product = add("MatMulInteger", [values, weight, zero, no_offset])
    product = add("Cast", [product], to=onnx.TensorProto.FLOAT)
    product = add("Mul", [product, add("Mul", [step, scale])])
    return product if bias is None else add("Add", [product, bias])


def grid_of(name: str, tensor: CodebookTensor) -> Grid:
    """The int8 grid of a quantized weight; raises TensorMismatch for free centers."""
    if not isinstance(tensor.codebook, Grid):
        msg = f"the centers of {name!r} do not lie on an int8 grid, which every form needs"
        raise TensorMismatch(msg)
    return tensor.codebook


def grid_steps(name: str, tensor: CodebookTensor) -> NDArray[Any]:
    """Grid steps int8 [out, in] of a quantized weight; raises TensorMismatch for free centers."""
    steps: NDArray[Any] = grid_of(name, tensor).steps[tensor.codes]
    return steps
