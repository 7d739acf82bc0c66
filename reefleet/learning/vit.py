"""The ViT backbone as pure functions over a flat dict of parameters.

Pre-norm transformer blocks as in DeiT (Touvron et al. 2021), without its final norm and head.
Patch embedding is a reshape and a matrix product, which has a gradient on every runtime.
Shapes: B batch, T tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from reefleet.model import ModelSpec
from reefleet.wire.checkpoint import initial

Params = Mapping[str, Tensor]


def init_params(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """First values of every tensor of the full model."""
    return {name: torch.from_numpy(value) for name, value in initial(spec, seed).items()}


def embed(params: Params, spec: ModelSpec, images: Tensor) -> Tensor:
    """Images [B, C, S, S] to tokens [B, T, D]: class token first, position embedding added."""
    batch, grid, patch = images.shape[0], spec.image_size // spec.patch_size, spec.patch_size
    patches = images.reshape(batch, spec.channels, grid, patch, grid, patch)
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, grid * grid, spec.patch_values)
    tokens = F.linear(patches, params["patch_embed.weight"], params["patch_embed.bias"])
    cls = params["cls_token"].expand(batch, 1, spec.width)
    return torch.cat([cls, tokens], 1) + params["pos_embed"]  # [B, T, D]


def attention(params: Params, prefix: str, x: Tensor, heads: int, scale: float) -> Tensor:
    """Multi-head self-attention on [B, T, D]; the inner width follows from the qkv weight."""
    batch, length, _ = x.shape
    inner = params[prefix + "qkv.weight"].shape[0] // 3
    qkv = F.linear(x, params[prefix + "qkv.weight"], params[prefix + "qkv.bias"])
    qkv = qkv.reshape(batch, length, 3, heads, inner // heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]  # each [B, H, T, inner / H]
    weights = torch.softmax(q @ k.transpose(-1, -2) * scale, -1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, length, inner)
    return F.linear(mixed, params[prefix + "proj.weight"], params[prefix + "proj.bias"])


def transformer_layer(params: Params, prefix: str, x: Tensor, heads: int, scale: float) -> Tensor:
    """X + attention(norm(x)), then x + feed-forward(norm(x)), on [B, T, D]."""
    x = x + attention(
        params, prefix + "attn.", layer_norm(params, prefix + "norm1", x), heads, scale
    )
    hidden = layer_norm(params, prefix + "norm2", x)
    hidden = F.linear(hidden, params[prefix + "mlp.fc1.weight"], params[prefix + "mlp.fc1.bias"])
    hidden = F.gelu(hidden)
    return x + F.linear(hidden, params[prefix + "mlp.fc2.weight"], params[prefix + "mlp.fc2.bias"])


def block(params: Params, spec: ModelSpec, index: int, tokens: Tensor) -> Tensor:
    """Backbone block `index` (from 0) on [B, T, D]."""
    scale = (spec.width // spec.heads) ** -0.5
    return transformer_layer(params, f"blocks.{index}.", tokens, spec.heads, scale)


def layer_norm(params: Params, prefix: str, x: Tensor) -> Tensor:
    """LayerNorm over the last axis with the parameters under `prefix`."""
    return F.layer_norm(x, x.shape[-1:], params[prefix + ".weight"], params[prefix + ".bias"], 1e-6)
