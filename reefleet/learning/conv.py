"""A compact convolutional backbone: inverted residuals in the manner of MobileNetV2.

Sandler et al. 2018, section 3, with five choices for training on a board and answering in int8:

- no normalization of activations. Statistics of a batch mean nothing at 1 to 16 images, and those
  of one image cost passes that no runtime folds. Instead the first weights keep the variance
  (`reefleet.geometry.conv.deviation`), in the spirit of Fixup (Zhang et al. 2019), and LayerNorm
  sees pooled features alone. Nothing is folded, so weights lie on the grid they were trained on.
- ReLU6 bounds what int8 must hold, and is a clip on every runtime.
- the stem's patches do not overlap, so it is a matrix product, as are the 1x1 convolutions on maps
  that keep channels last. The depthwise 3x3 is the one true convolution.
- a block adds to the token, as a transformer's block adds to its class token: one classifier can
  read all exits only where their tokens share a space. What it adds is pooled in two steps: each
  row and each column to its mean, then projected, clipped and averaged. The mean of all positions
  at once is no more than C numbers, too few at shallow exits; projecting every position, as the
  last layer of MobileNetV2 does, would cost as much as a block.
- modulation: Ree's output takes the place of the token, and as the token is no part of the map, it
  also returns as a bias of each channel,
  through a small matrix of the block it enters, zero at the start: an unmodulated network is the
  point from which modulation is learned. The product is divided by the root of the width, without
  which the matrix moves faster than what it feeds can follow, and deep exits suffer. Detached, only
  that matrix learns from what it changes.

Shapes: B batch, H W positions, C channels, E expanded channels, D width of a token.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from reefleet.geometry.conv import geometry, residual
from reefleet.learning.adapters import adapted, linear, low_rank, scaled
from reefleet.learning.vit import Params, patched
from reefleet.model import ModelSpec

SIX = 6.0


def embed(params: Params, spec: ModelSpec, images: Tensor) -> Tensor:
    """Images [B, C, H, W] to the stem's map [B, H', W', C']."""
    return relu6(linear(params, "stem", patched(spec, images)))


def block(params: Params, spec: ModelSpec, index: int, x: Tensor) -> Tensor:
    """Block `index` on a map [B, H, W, C]: expand, depthwise, project; added where shapes agree."""
    prefix = f"blocks.{index}."
    inner = relu6(_one_by_one(params, prefix + "expand", x))
    inner = relu6(depthwise(params, prefix, inner, geometry(spec).strides[index]))
    out = adapted(params, prefix + "project", x, _one_by_one(params, prefix + "project", inner))
    return x + out if residual(spec, index) else out


def feature(
    params: Params,
    spec: ModelSpec,  # noqa: ARG001  # one protocol with the other backbones
    index: int,
    x: Tensor,
    before: Tensor | None,
) -> Tensor:
    """The token [B, 1, D] after block `index`: the one before it, and what its map adds."""
    prefix = f"features.{index}."
    weight, bias = params[prefix + "weight"], params[prefix + "bias"]
    rows, columns = (relu6(F.linear(x.mean(axis), weight, bias)) for axis in (2, 1))  # [B, H|W, D]
    own = (rows.mean(1) + columns.mean(1)).unsqueeze(1)
    return own if before is None else before + own


def modulated(
    params: Params,
    spec: ModelSpec,
    index: int,
    x: Tensor,
    token: Tensor,
    *,
    detached: bool,
) -> Tensor:
    """The map [B, H, W, C] that enters block `index`, with the token [B, 1, D] as channel bias."""
    passed = token.detach() if detached else token
    bias = F.linear(passed, params[f"blocks.{index}.modulation.weight"])  # [B, 1, C]
    scale: float = spec.width**-0.5
    return x + (bias * scale).unsqueeze(1)


def depthwise(params: Params, prefix: str, x: Tensor, stride: int) -> Tensor:
    """The 3x3 convolution of each channel by itself, [B, H, W, E], one zero around the border."""
    weight = params[prefix + "depthwise.weight"]  # [E, 9]
    kernel = weight.reshape(weight.shape[0], 1, 3, 3)
    bias = params[prefix + "depthwise.bias"]
    found = F.conv2d(x.permute(0, 3, 1, 2), kernel, bias, stride, 1, groups=weight.shape[0])
    return scaled(params, prefix + "depthwise", found.permute(0, 2, 3, 1))


def relu6(x: Tensor) -> Tensor:
    """Clip to [0, 6]."""
    return x.clamp(0.0, SIX)


def _one_by_one(params: Params, name: str, x: Tensor) -> Tensor:
    y = linear(params, name, x)
    more = low_rank(params, name + ".lora", x)
    return y if more is None else y + more
