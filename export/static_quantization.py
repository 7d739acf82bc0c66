"""Static symmetric quantization: activation scales by calibration, Q/DQ pairs in front of products.

Only the linear layers whose weights lie on the int8 grid are quantized. Attention products, norms,
softmax, outputs and biases stay float, as TensorRT wants them (docs/export.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from export.emitting import arguments, aten
from export.onnx_graph import GraphBuilder
from export.stages import Part
from export.weights import Embedded, grid_of, grid_steps
from reefleet.errors import DataTooSmall, RuleBroken
from reefleet.model import Shape
from reefleet.wire.codebook import GRID_LIMIT
from reefleet.wire.tensors import CodebookTensor, EncodedTensor

HALF_LIMIT = 65504.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Largest magnitudes on real samples: the input of each quantized layer, and any value."""

    largest_input: Mapping[str, float]
    largest_value: float
    largest_node: str

    def require_half_range(self) -> None:
        """Raise RuleBroken where a half precision engine would overflow."""
        if self.largest_value > HALF_LIMIT:
            msg = (
                f"{self.largest_node} reaches {self.largest_value:.3g} on the calibration samples, "
                f"more than half precision holds ({HALF_LIMIT:g})"
            )
            raise RuleBroken(msg)


def calibrate(
    part: Part, tensors: Mapping[str, EncodedTensor], images: NDArray[np.float32]
) -> Calibration:
    """Run the whole sub-model `part` of batch 1 over images [N, C, S, S] and watch its values.

    Raises DataTooSmall without images.
    """
    if not len(images):
        msg = "static quantization needs at least one calibration sample; there are none"
        raise DataTooSmall(msg)
    watch = _Watch(part, frozenset(n for n, t in tensors.items() if isinstance(t, CodebookTensor)))
    weights = [
        torch.from_numpy(np.array(tensors[name].decode()))
        for name in part.trace.inputs
        if name in tensors
    ]
    with torch.no_grad():
        for image in images:
            watch.run(torch.from_numpy(image[None]), *weights)
    node, value = max(watch.values.items(), key=lambda item: item[1])
    return Calibration(watch.inputs, value, node)


class StaticQdq(Embedded):
    """Symmetric int8 weights and activations between Quantize and Dequantize nodes.

    TensorRT 10 reads int8 weights; TensorRT 8 wants the float weight and a Quantize node after it.
    """

    def __init__(
        self,
        tensors: Mapping[str, EncodedTensor],
        calibration: Calibration,
        *,
        float_weights: bool,
    ) -> None:
        """Take packed tensors, calibration, and which of the two ways to store weights."""
        super().__init__(tensors)
        self._calibration = calibration
        self._float_weights = float_weights

    def declare(self, graph: GraphBuilder, name: str, shape: Shape) -> bool:
        """Store a quantized weight [in, out] behind a DequantizeLinear."""
        tensor = self._tensors.get(name)
        if not isinstance(tensor, CodebookTensor):
            return super().declare(graph, name, shape)
        steps = np.ascontiguousarray(grid_steps(name, tensor).T)
        # A layer of zeros has scale zero, which the rules forbid; any scale stands for zeros.
        scale = np.array(grid_of(name, tensor).scale or 1.0, np.float32)
        graph.initializer(f"{name}.scale", scale)
        stored = f"{name}.weight"
        if self._float_weights:
            graph.initializer(f"{name}.float", steps.astype(np.float32) * scale)
            graph.name_output(
                graph.add("QuantizeLinear", [f"{name}.float", f"{name}.scale", _zero(graph)]),
                stored,
            )
        else:
            graph.initializer(stored, steps)
        graph.name_output(
            graph.add("DequantizeLinear", [stored, f"{name}.scale", _zero(graph)]), name
        )
        return True

    def linear(self, graph: GraphBuilder, x: str, name: str, bias: str | None) -> str | None:
        """Both inputs of the product quantized, the bias float."""
        if not isinstance(self._tensors.get(name), CodebookTensor):
            return None
        largest = self._calibration.largest_input[name] or 1.0
        scale = graph.constant(np.array(largest / GRID_LIMIT, np.float32))
        zero = _zero(graph)
        rounded = graph.add("QuantizeLinear", [x, scale, zero])
        restored = graph.add("DequantizeLinear", [rounded, scale, zero])
        product = graph.add("MatMul", [restored, name])
        return product if bias is None else graph.add("Add", [product, bias])


def _zero(graph: GraphBuilder) -> str:
    return graph.constant(np.array(0, np.int8))


class _Watch(fx.Interpreter):
    """Runs a trace and keeps the largest magnitudes it sees."""

    def __init__(self, part: Part, quantized: frozenset[str]) -> None:
        super().__init__(fx.GraphModule(torch.nn.Module(), part.trace.graph))
        holders = (n for n in part.trace.graph.nodes if n.op == "placeholder")
        self._names = dict(zip(holders, part.trace.inputs, strict=True))
        self._quantized = quantized
        self.inputs: dict[str, float] = {}
        self.values: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            largest = float(result.abs().max())
            self.values[n.name] = max(self.values.get(n.name, 0.0), largest)
        if n.target in {aten.mm.default, aten.addmm.default}:
            x, matrix = arguments(n)[-2:]
            name = self._names.get(arguments(matrix)[0], "")
            if name in self._quantized:
                seen = float(self.env[x].abs().max()) if x in self.env else self.values[x.name]
                self.inputs[name] = max(self.inputs.get(name, 0.0), seen)
        return result
