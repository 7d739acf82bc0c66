"""ReeFL's network: the shared recurrent exit module (Ree) and classifier over the backbone.

ReeFL (ICML 2024), as its released code computes it: at every block the history of *modulated*
class tokens is re-encoded together with the current one, and the result replaces the class token.
The published code does so by writing in place into an aliased buffer; here it is functional, and
the backbone says what its token is and what giving it back means.
Shapes: B batch, D width, E exits, h history length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from reefleet.learning.backbone import backbone_of
from reefleet.learning.vit import Params, layer_norm, transformer_layer
from reefleet.model import ModelSpec

Modulation = Literal["on", "off", "detached"]


def start(params: Params, spec: ModelSpec, images: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, C, H, W] to the backbone's state [B, ...] and the history [B, 1, D] at block 0."""
    meta = params["ree.meta_token"].expand(images.shape[0], 1, spec.width)
    return backbone_of(spec).embed(params, spec, images), meta


def advance(
    params: Params,
    spec: ModelSpec,
    index: int,
    state: Tensor,
    history: Tensor,
    modulation: Modulation = "on",
) -> tuple[Tensor, Tensor, Tensor]:
    """Run block `index` and Ree; gives state [B, ...], history [B, h + 1, D], feature [B, D].

    A block is entered with the last token of the history given back to the backbone, unless
    modulation is `off`, which keeps raw tokens in the history too. The feature is Ree's first
    output plus the raw token: what the classifier reads. `detached` computes what `on` does, but
    Ree sends no gradient through later blocks.
    """
    backbone = backbone_of(spec)
    last, is_detached = history[:, -1:], modulation == "detached"
    if index and modulation != "off":
        state = backbone.modulated(params, spec, index, state, last, detached=is_detached)
    state = backbone.block(params, spec, index, state)
    before = last.detach() if is_detached else last
    raw = backbone.feature(params, spec, index, state, before if index else None)
    depths = torch.cat([params[f"ree.depth_embed.{row}"] for row in range(index + 2)])
    encoded = transformer_layer(
        params,
        "ree.",
        torch.cat([history, raw], 1) + depths,
        spec.ree_heads,
        spec.ree_width**-0.5,  # the published scale: total width, not the width of a head
    )
    told = raw if modulation == "off" else encoded[:, -1:]
    return state, torch.cat([history, told], 1), encoded[:, 0] + raw[:, 0]


def classify(params: Params, feature: Tensor) -> Tensor:
    """Feature [B, D] to logits [B, classes] through the shared classifier."""
    return F.linear(
        layer_norm(params, "head.norm", feature), params["head.weight"], params["head.bias"]
    )


def exit_logits(
    params: Params, spec: ModelSpec, depth: int, images: Tensor, modulation: Modulation = "on"
) -> Tensor:
    """Logits [B, E, classes] of every exit that a sub-model of `depth` blocks holds."""
    exits = spec.exits_within(depth)
    state, history = start(params, spec, images)
    logits = []
    for index in range(depth):
        state, history, feature = advance(params, spec, index, state, history, modulation)
        if index + 1 in exits:
            logits.append(classify(params, feature))
    return torch.stack(logits, 1)
