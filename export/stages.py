"""Inference graphs without weights: the batch graph and the chain of stages that can stop early.

A stage ends at an exit. Its history has a fixed length, so every shape is static. Quantized weights
lie on the int8 grid: the stage multiplies integers, and the device supplies the weights when it
opens the session.
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor

from export.lowering import lower
from export.trace import Named, trace
from reefleet.learning.ree import advance, classify, exit_logits, start
from reefleet.model import ModelSpec, forward_macs, quantized_tensors, tensor_shapes
from reefleet.wire.manifest import Initializer, Stage


def predict_graph(spec: ModelSpec, depth: int, batch: int) -> onnx.ModelProto:
    """`image` [P, C, S, S] and every weight to `logits` [P, E, classes], float."""

    def function(values: Named) -> dict[str, Tensor]:
        return {"logits": exit_logits(values, spec, depth, values["image"])}

    return lower(
        trace(function, {"image": _image(spec, batch), **_weights(spec, depth)}), "predict"
    )


def stage_graphs(
    spec: ModelSpec, depth: int, *, quantized: bool
) -> list[tuple[Stage, onnx.ModelProto]]:
    """The stages of a sub-model at batch 1, shallow to deep, with the weights each expects."""
    exits = spec.exits_within(depth)
    starts = (0, *exits)
    return [
        _stage(spec, first, last, position, final=last == depth, quantized=quantized)
        for position, (first, last) in enumerate(zip(starts, exits, strict=False))
    ]


def _stage(
    spec: ModelSpec, first: int, last: int, position: int, *, final: bool, quantized: bool
) -> tuple[Stage, onnx.ModelProto]:
    weights = {
        name: value for name, value in _weights(spec, last).items() if _used(name, first, last)
    }
    example = (
        {"image": _image(spec, 1)}
        if first == 0
        else {
            "tokens": torch.zeros(1, spec.tokens, spec.width),
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
        logits = classify(values, feature)
        return (
            {"logits": logits}
            if final
            else {
                "logits": logits,
                "tokens_out": tokens,
                "history_out": history,
            }
        )

    coded = frozenset(quantized_tensors(spec, last)) & set(weights) if quantized else frozenset()
    graph = lower(
        trace(function, {**example, **weights}),
        f"stage-{position}",
        weights=frozenset(weights),
        int8=coded,
    )
    entry = Stage(
        file=f"stage-{position}.onnx",
        exit_depth=last,
        macs=forward_macs(spec, last),
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
    if name.startswith("blocks."):
        return first <= int(name.split(".")[1]) < last
    if name.startswith(("patch_embed.", "cls_token", "pos_embed", "ree.meta_token")):
        return first == 0
    return True


def _image(spec: ModelSpec, batch: int) -> Tensor:
    return torch.zeros(batch, spec.channels, spec.image_size, spec.image_size)


def _weights(spec: ModelSpec, depth: int) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in tensor_shapes(spec, depth).items()}
