"""The plain multi-exit network of the baselines: a LayerNorm and a linear layer at every exit.

No Ree, no modulation; the backbone and its tensor names are those of the ReeFL network.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from reefleet.learning.vit import Params, block, embed, layer_norm
from reefleet.model import ModelSpec, Shape, tensor_shapes

REE = ("ree.", "head.")


def head_shapes(spec: ModelSpec, depth: int) -> dict[str, Shape]:
    """Name and shape of each tensor in the sub-model of `depth` blocks."""
    shapes = {
        name: shape
        for name, shape in tensor_shapes(spec, depth).items()
        if not name.startswith(REE)
    }
    for exit_depth in spec.exits_within(depth):
        prefix = f"exits.{exit_depth}."
        shapes[prefix + "norm.weight"] = shapes[prefix + "norm.bias"] = (spec.width,)
        shapes[prefix + "weight"] = (spec.classes, spec.width)
        shapes[prefix + "bias"] = (spec.classes,)
    return shapes


def head_logits(params: Params, spec: ModelSpec, depth: int, images: Tensor) -> Tensor:
    """Logits [B, E, classes] of every exit of a sub-model, images [B, C, S, S]."""
    exits, logits = spec.exits_within(depth), []
    tokens = embed(params, spec, images)
    for index in range(depth):
        tokens = block(params, spec, index, tokens)
        if index + 1 in exits:
            prefix = f"exits.{index + 1}."
            feature = layer_norm(params, prefix + "norm", tokens[:, 0])
            logits.append(F.linear(feature, params[prefix + "weight"], params[prefix + "bias"]))
    return torch.stack(logits, 1)
