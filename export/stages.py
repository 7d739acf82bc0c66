"""Inference as traces, and as graphs without weights: the whole sub-model, the chain of stages.

A stage ends at an exit. Its history has a fixed length, so every shape is static. A trace is made
once in a process and lowered to as many forms as are asked for. In the graphs without weights,
quantized weights lie on the int8 grid: the stage multiplies integers, and the device supplies the
weights when it opens the session.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import onnx
import torch
from torch import Tensor

from export.lowering import lower
from export.trace import Named, Trace, trace
from export.weights import External
from reefleet.geometry.trained import ENTRY_PREFIXES
from reefleet.learning.ree import advance, classify, exit_logits, start
from reefleet.model import (
    ModelSpec,
    forward_macs,
    quantized_tensors,
    state_shape,
    tensor_shapes,
)
from reefleet.wire.manifest import Initializer, Stage, stage_name

MODEL = "model"


@dataclass(frozen=True, slots=True)
class Part:
    """A traced piece of inference: the whole sub-model, or the stage that ends at `exit_depth`."""

    name: str
    exit_depth: int
    trace: Trace
    weights: frozenset[str]


@lru_cache(maxsize=64)
def model_part(spec: ModelSpec, depth: int, batch: int = 1) -> Part:
    """`image` [B, C, H, W] to `logits` [B, E, classes] of every exit."""

    def function(values: Named) -> dict[str, Tensor]:
        return {"logits": exit_logits(values, spec, depth, values["image"])}

    weights = _weights(spec, depth)
    traced = trace(function, {"image": _image(spec, batch), **weights})
    return Part(MODEL, depth, traced, frozenset(weights))


def stage_parts(spec: ModelSpec, depth: int) -> tuple[Part, ...]:
    """The stages of a sub-model at batch 1, shallow to deep."""
    exits = spec.exits_within(depth)
    return tuple(_stage_part(spec, position, last == depth) for position, last in enumerate(exits))


def predict_graph(spec: ModelSpec, depth: int, batch: int) -> onnx.ModelProto:
    """`image` [P, C, H, W] and every weight to `logits` [P, E, classes], float."""
    return lower(model_part(spec, depth, batch).trace, "predict")


def stage_graphs(
    spec: ModelSpec, depth: int, *, quantized: bool, also: Collection[str] = ()
) -> list[tuple[Stage, onnx.ModelProto]]:
    """The stages of a sub-model, shallow to deep, as graphs with the weights each expects.

    `also` names matrices on the grid beside those that carry a codebook by role.
    """
    coded = {*quantized_tensors(spec, depth), *also} if quantized else set()
    return [_stage(spec, part, frozenset(coded)) for part in stage_parts(spec, depth)]


@lru_cache(maxsize=256)
def _stage_part(spec: ModelSpec, position: int, final: bool) -> Part:  # noqa: FBT001  # a cache key
    first, last = (0, *spec.exits)[position : position + 2]
    weights = {
        name: value for name, value in _weights(spec, last).items() if _used(name, first, last)
    }
    example = (
        {"image": _image(spec, 1)}
        if first == 0
        else {
            "tokens": torch.zeros(1, *state_shape(spec, first)),
            "history": torch.zeros(1, first + 1, spec.width),
        }
    )

    def function(values: Named) -> dict[str, Tensor]:
        if first == 0:
            tokens, history = start(values, spec, values["image"])
        else:
            tokens, history = values["tokens"], values["history"]
        for index in range(first, last):
            tokens, history, feature = advance(values, spec, index, tokens, history)
        logits = {"logits": classify(values, feature)}
        return logits if final else {**logits, "tokens_out": tokens, "history_out": history}

    traced = trace(function, {**example, **weights})
    return Part(stage_name(position), last, traced, frozenset(weights))


def _stage(spec: ModelSpec, part: Part, named: frozenset[str]) -> tuple[Stage, onnx.ModelProto]:
    coded = named & part.weights
    graph = lower(part.trace, part.name, External(part.weights, coded))
    entry = Stage(
        file=f"{part.name}.onnx",
        exit_depth=part.exit_depth,
        macs=forward_macs(spec, part.exit_depth),
        initializers=tuple(_initializers(graph, coded)),
    )
    return entry, graph


def _initializers(graph: onnx.ModelProto, coded: frozenset[str]) -> list[Initializer]:
    external = [
        tensor.name
        for tensor in graph.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    entries = []
    for name in external:
        if name in coded:
            entries.append(Initializer(name, name, "int8-transposed"))
        elif name.endswith(".scale"):
            entries.append(Initializer(name, name.removesuffix(".scale"), "scale"))
        else:
            entries.append(Initializer(name, name, "float32"))
    return entries


def _used(name: str, first: int, last: int) -> bool:
    if name.startswith(("blocks.", "features.")):
        return first <= int(name.split(".")[1]) < last
    if name.startswith((*ENTRY_PREFIXES, "ree.meta_token")):
        return first == 0
    return True


def _image(spec: ModelSpec, batch: int) -> Tensor:
    return torch.zeros(batch, *spec.image_shape)


def _weights(spec: ModelSpec, depth: int) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in tensor_shapes(spec, depth).items()}
