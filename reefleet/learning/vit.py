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

from reefleet.learning.adapters import adapted, linear, low_rank, scaled
from reefleet.model import ModelSpec
from reefleet.wire.checkpoint import initial

Params = Mapping[str, Tensor]


def init_params(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """First values of every tensor of the full model."""
    return {name: torch.from_numpy(value) for name, value in initial(spec, seed).items()}


def embed(params: Params, spec: ModelSpec, images: Tensor) -> Tensor:
    """Images [B, C, H, W] to tokens [B, T, D]: class token first, position embedding added."""
    batch = images.shape[0]
    patches = patched(spec, images).reshape(batch, spec.tokens - 1, spec.patch_values)
    tokens = linear(params, "patch_embed", patches)
    cls = params["cls_token"].expand(batch, 1, spec.width)
    return torch.cat([cls, tokens], 1) + params["pos_embed"]  # [B, T, D]


def patched(spec: ModelSpec, images: Tensor) -> Tensor:
    """Images [B, C, H, W] cut into patches that do not overlap: [B, rows, columns, values]."""
    batch, (rows, columns), (high, wide) = images.shape[0], spec.grid, spec.patch_shape
    patches = images.reshape(batch, spec.channels, rows, high, columns, wide)
    # Contiguous, or patches of one pixel stay a view, whose product is a batch of tiny ones.
    moved = patches.permute(0, 2, 4, 1, 3, 5).contiguous()
    return moved.reshape(batch, rows, columns, spec.patch_values)


def attention(params: Params, prefix: str, x: Tensor, heads: int, scale: float) -> Tensor:
    """Multi-head self-attention on [B, T, D]; the inner width follows from the qkv weight."""
    batch, length, _ = x.shape
    inner = params[prefix + "qkv.weight"].shape[0] // 3
    qkv = linear(params, prefix + "qkv", x)
    queries, values = (low_rank(params, prefix + f"lora_{part}", x) for part in ("q", "v"))
    if queries is not None and values is not None:
        qkv = qkv + torch.cat([queries, torch.zeros_like(queries), values], -1)
    qkv = qkv.reshape(batch, length, 3, heads, inner // heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]  # each [B, H, T, inner / H]
    weights = torch.softmax(q @ k.transpose(-1, -2) * scale, -1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, length, inner)
    return linear(params, prefix + "proj", mixed)


def transformer_layer(params: Params, prefix: str, x: Tensor, heads: int, scale: float) -> Tensor:
    """X + attention(norm(x)), then x + feed-forward(norm(x)), on [B, T, D]."""
    read = layer_norm(params, prefix + "norm1", x)
    mixed = attention(params, prefix + "attn.", read, heads, scale)
    x = x + adapted(params, prefix + "attn", read, mixed)
    read = layer_norm(params, prefix + "norm2", x)
    hidden = F.gelu(linear(params, prefix + "mlp.fc1", read))
    return x + adapted(params, prefix + "mlp", read, linear(params, prefix + "mlp.fc2", hidden))


def block(params: Params, spec: ModelSpec, index: int, tokens: Tensor) -> Tensor:
    """Backbone block `index` (from 0) on [B, T, D]."""
    scale = (spec.width // spec.heads) ** -0.5
    return transformer_layer(params, f"blocks.{index}.", tokens, spec.heads, scale)


def feature(
    params: Params,  # noqa: ARG001  # one protocol with the other backbones
    spec: ModelSpec,  # noqa: ARG001
    index: int,  # noqa: ARG001
    tokens: Tensor,
    before: Tensor | None,  # noqa: ARG001
) -> Tensor:
    """What Ree reads after any block: the class token, [B, 1, D]."""
    return tokens[:, :1]


def modulated(
    params: Params,  # noqa: ARG001  # one protocol with the other backbones
    spec: ModelSpec,  # noqa: ARG001
    index: int,  # noqa: ARG001
    tokens: Tensor,
    token: Tensor,
    *,
    detached: bool,
) -> Tensor:
    """Tokens with the modulated one in place of the class token.

    Detached, the gradient passes to the raw class token instead.
    """
    if detached:
        raw = tokens[:, :1]
        token = raw + (token - raw).detach()
    return torch.cat([token, tokens[:, 1:]], 1)


def layer_norm(params: Params, prefix: str, x: Tensor) -> Tensor:
    """LayerNorm over the last axis with the parameters under `prefix`."""
    weight, bias = params[prefix + ".weight"], params[prefix + ".bias"]
    return scaled(params, prefix, F.layer_norm(x, x.shape[-1:], weight, bias, 1e-6))
