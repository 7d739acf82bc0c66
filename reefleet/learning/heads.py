"""The plain multi-exit network of the baselines: a LayerNorm and a linear layer at every exit.

No Ree, no modulation; the backbone and its tensor names are those of the ReeFL network.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from reefleet.learning.backbone import backbone_of
from reefleet.learning.vit import Params, layer_norm
from reefleet.model import ModelSpec


def head_logits(params: Params, spec: ModelSpec, depth: int, images: Tensor) -> Tensor:
    """Logits [B, E, classes] of every exit of a sub-model, images [B, C, H, W]."""
    exits, logits = spec.exits_within(depth), []
    backbone = backbone_of(spec)
    state, token = backbone.embed(params, spec, images), None
    for index in range(depth):
        state = backbone.block(params, spec, index, state)
        token = backbone.feature(params, spec, index, state, token)
        if index + 1 in exits:
            prefix = f"exits.{index + 1}."
            read = layer_norm(params, prefix + "norm", token[:, 0])
            logits.append(F.linear(read, params[prefix + "weight"], params[prefix + "bias"]))
    return torch.stack(logits, 1)
