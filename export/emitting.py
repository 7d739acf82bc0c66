"""What an emitter of ONNX nodes sees: the lowering's context, and a traced node's facts.

An emitter is `(context, node) -> names of the node's outputs`; the context gives values by name. A
value may have been made in another shape than its node has: views cost nothing until one is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import fx

from export.onnx_graph import GraphBuilder
from reefleet.model import Shape

aten: Any = torch.ops.aten


class Context(Protocol):
    """What an emitter may ask of the lowering."""

    graph: GraphBuilder

    def value(self, argument: Any, like: fx.Node | None = None) -> str:
        """Name of an argument's value; a Python number becomes a constant of `like`'s type."""

    def loose(self, node: fx.Node) -> tuple[str, Shape]:
        """Name of a value in whatever shape it was made, and that shape."""

    def shaped(self, name: str, made: Shape, wanted: Shape) -> str:
        """The value `name` of shape `made` in another shape of the same size."""

    def remember(self, name: str, shape: Shape) -> str:
        """Say that the value `name` was made in another shape than its node has."""

    def linear(self, x: str, node: fx.Node, bias: str | None) -> str | None:
        """An integer form of x @ node (+ bias) where `node` is a quantized weight, else None."""

    def transposed(self, node: fx.Node) -> fx.Node | None:
        """The matrix that `node` merely transposes, if it does."""


Emitter = Callable[[Context, fx.Node], Sequence[str]]

DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.int64: np.dtype(np.int64),
    torch.bool: np.dtype(np.bool_),
}


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Static shape of a traced value."""
    return tuple(int(extent) for extent in node.meta["val"].shape)


def arguments(node: fx.Node, *defaults: Any) -> tuple[Any, ...]:
    """Positional arguments of a traced call, filled up with the defaults of the schema."""
    return (*node.args, *defaults[len(node.args) :])


def dtype_of(node: fx.Node) -> np.dtype[Any]:
    """Element type of a traced value."""
    return DTYPES[node.meta["val"].dtype]
