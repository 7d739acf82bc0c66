"""Where the weights of an ONNX graph are, and how its linear layers multiply by them.

A form takes the graph inputs that are weights. Quantized weights lie on the int8 grid of their
packed tensor, exactly, in every form; activations are rounded when the graph runs (dynamic) or with
scales found by calibration (`export.static_quantization`).
"""

from __future__ import annotations

import math
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

    Three look-ups of the default domain unpack them; the runtime does these once, when the file is
    opened, and multiplies int8 from then on. Codes of 3, 5, 6 or 7 bits lie in streams of 4, 2 and
    1 bits, so that none crosses a byte. What the runtime makes on the way it holds until the file
    is open, so it is kept small: a byte is looked up whole.
    """

    def __init__(self, tensors: Mapping[str, EncodedTensor]) -> None:
        """Take the packed tensors of the sub-model."""
        super().__init__(tensors)
        self._places: dict[int, str] = {}

    def declare(self, graph: GraphBuilder, name: str, shape: Shape) -> bool:
        """Store codes, or floats for what is not quantized.

        Beside few bits long names weigh, so that codes, centers and scales alone keep theirs.
        """
        taken = super().declare(graph, name, shape)
        tensor = self._tensors.get(name)
        if taken and not (isinstance(tensor, CodebookTensor) and tensor.bits == _BYTE):
            graph.shorten(name)
        return taken

    def _store(self, graph: GraphBuilder, name: str, tensor: CodebookTensor, grid: Grid) -> None:
        if tensor.bits == _BYTE:
            super()._store(graph, name, tensor, grid)
            return
        codes = np.ascontiguousarray(tensor.codes.T)
        graph.initializer(f"{name}.centers", grid.steps)
        if _BYTE % tensor.bits == 0:
            graph.initializer(f"{name}.codes", _stream(codes, tensor.bits))
            table = graph.add("Gather", [f"{name}.centers", self._digits(graph, tensor.bits)])
            found = _unpacked(graph, table, f"{name}.codes", codes.shape, _BYTE // tensor.bits)
            graph.name_output(found, name)
            return
        streams = []
        for width, offset in planes(tensor.bits):
            stored = f"{name}.codes.{width}"
            graph.initializer(stored, _stream((codes >> offset) & ((1 << width) - 1), width))
            table = graph.constant(digits(width) << offset)
            streams.append(_unpacked(graph, table, stored, codes.shape, _BYTE // width))
        whole = streams[0]
        for part in streams[1:]:
            whole = graph.add("BitwiseOr", [whole, part])
        index = graph.add("Cast", [whole], to=onnx.TensorProto.INT32)
        graph.name_output(graph.add("Gather", [f"{name}.centers", index]), name)

    def _digits(self, graph: GraphBuilder, bits: int) -> str:
        """What each byte holds, as an index; made once in a graph from a table of bytes."""
        if bits not in self._places:
            table = graph.constant(digits(bits))
            self._places[bits] = graph.add("Cast", [table], to=onnx.TensorProto.INT32)
        return self._places[bits]


def planes(bits: int) -> list[tuple[int, int]]:
    """Widths that divide a byte and add up to `bits`, each with its place, widest first."""
    return [(width, bits & (width - 1)) for width in (4, 2, 1) if bits & width]


def digits(width: int) -> NDArray[np.uint8]:
    """What each byte holds: digits of `width` bits, the lowest first, [256, 8 / width]."""
    shifts = np.arange(0, _BYTE, width)
    return ((np.arange(256)[:, None] >> shifts) & ((1 << width) - 1)).astype(np.uint8)


def _stream(codes: NDArray[Any], width: int) -> NDArray[np.uint8]:
    return np.frombuffer(pack(codes.reshape(-1).astype(np.uint8), width), np.uint8)


def _unpacked(
    graph: GraphBuilder, table: str, stream: str, shape: tuple[int, ...], each: int
) -> str:
    """Rows of a table [256, each] in the order of the stream's bytes, as a matrix of that shape."""
    index = graph.add("Cast", [stream], to=onnx.TensorProto.INT32)
    found = graph.add("Gather", [table, index])
    count = math.prod(shape)
    if count % each:
        flat = graph.add("Reshape", [found, graph.ints(-1)])
        found = graph.add("Slice", [flat, graph.ints(0), graph.ints(count)])
    return graph.add("Reshape", [found, graph.ints(*shape)])


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
