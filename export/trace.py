"""Tracing: a pure function over named tensors becomes a flat graph of ATen operators.

`make_fx` records forward, backward and optimizer alike, since `torch.func` has already made them
one function. Gradients of slicing stay whole operators, because one Pad is cheaper on a board than
the comparisons they would decompose into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

Named = Mapping[str, Tensor]
Function = Callable[[Named], dict[str, Tensor]]

_KEPT_WHOLE = (
    torch.ops.aten.select_backward.default,
    torch.ops.aten.slice_backward.default,
    torch.ops.aten.native_layer_norm.default,
)


@dataclass(frozen=True, slots=True)
class Trace:
    """An ATen graph with its interface: input names with examples, output names in order."""

    graph: fx.Graph
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]


def trace(function: Function, example: Named) -> Trace:
    """Record `function` on example values; shapes are fixed to theirs."""
    names = tuple(example)
    outputs: list[str] = []

    def flat(*values: Tensor) -> list[Tensor]:
        result = function(dict(zip(names, values, strict=True)))
        outputs[:] = result
        return list(result.values())

    table = dict(core_aten_decompositions())
    for operator in _KEPT_WHOLE:
        table.pop(operator, None)
    module = make_fx(flat, decomposition_table=table, tracing_mode="fake")(*example.values())
    return Trace(module.graph, dict(example), tuple(outputs))
