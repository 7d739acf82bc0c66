"""ReeFL's network: the shared recurrent exit module (Ree) and classifier over the backbone.

ReeFL (ICML 2024), as its released code computes it: at every block the history of *modulated*
class tokens is re-encoded together with the current one, and the result replaces the class token.
The published code does so by writing in place into an aliased buffer; here it is functional.
Shapes: B batch, T tokens, D width, E exits, h history length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from reefleet.learning.vit import Params, block, embed, layer_norm, transformer_layer
from reefleet.model import ModelSpec

Modulation = Literal["on", "off", "detached"]


def start(params: Params, spec: ModelSpec, images: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, C, S, S] to the tokens [B, T, D] and the history [B, 1, D] before block 0."""
    meta = params["ree.meta_token"].expand(images.shape[0], 1, spec.width)
    return embed(params, spec, images), meta


def advance(
    params: Params,
    spec: ModelSpec,
    index: int,
    tokens: Tensor,
    history: Tensor,
    modulation: Modulation = "on",
) -> tuple[Tensor, Tensor, Tensor]:
    """Run block `index` and Ree; gives tokens [B, T, D], history [B, h + 1, D], feature [B, D].

    The feature is Ree's first output plus the raw class token: what the classifier reads.
    `off` leaves the class token raw, in the history too. `detached` computes what `on` does, but
    the next block's gradient passes to the raw token, so Ree sends none through later blocks.
    """
    tokens = block(params, spec, index, tokens)
    raw = tokens[:, :1]
    depths = torch.cat([params[f"ree.depth_embed.{row}"] for row in range(index + 2)])
    encoded = transformer_layer(
        params,
        "ree.",
        torch.cat([history, raw], 1) + depths,
        spec.ree_heads,
        spec.ree_width**-0.5,  # the published scale: total width, not the width of a head
    )
    feature = encoded[:, 0] + raw[:, 0]
    if modulation == "off":
        return tokens, torch.cat([history, raw], 1), feature
    modulated = encoded[:, -1:]
    passed = modulated if modulation == "on" else raw + (modulated - raw).detach()
    tokens = torch.cat([passed, tokens[:, 1:]], 1)
    return tokens, torch.cat([history, modulated], 1), feature


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
    tokens, history = start(params, spec, images)
    logits = []
    for index in range(depth):
        tokens, history, feature = advance(params, spec, index, tokens, history, modulation)
        if index + 1 in exits:
            logits.append(classify(params, feature))
    return torch.stack(logits, 1)
