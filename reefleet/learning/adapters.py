"""What a trained set adds to a layer: low-rank matrices, a gain and a shift, a bottleneck.

LoRA (Hu et al. 2021), SSF (Lian et al. 2022), serial adapters (Houlsby et al. 2019) and parallel
ones (He et al. 2022), where `reefleet.geometry.trained` says. Each acts where its tensors are held,
and beside the frozen product, not merged into it: a gradient of the whole matrix, which a merged
form needs, would cost as much as training it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

LORA_SCALE = 2.0  # the published alpha 64 at rank 32


def linear(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """The linear layer `name` on the last axis, with the gain and shift that it may have."""
    return scaled(params, name, F.linear(x, params[name + ".weight"], params[name + ".bias"]))


def scaled(params: Mapping[str, Tensor], name: str, y: Tensor) -> Tensor:
    """What layer `name` gave, under SSF's gain and shift of each channel where it has them."""
    gain = params.get(name + ".ssf.gain")
    return y if gain is None else y * gain + params[name + ".ssf.shift"]


def low_rank(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor | None:
    """LoRA's part of a product, scale B A x; None where it has none."""
    down = params.get(name + ".a")
    if down is None:
        return None
    return LORA_SCALE * F.linear(F.linear(x, down), params[name + ".b"])


def adapted(params: Mapping[str, Tensor], name: str, x: Tensor, y: Tensor) -> Tensor:
    """What part `name` made of x, after its serial adapter or with the one that reads x beside."""
    if name + ".adapter.up.weight" in params:
        return y + _bottleneck(params, name + ".adapter.", y)
    if name + ".parallel.up.weight" in params:
        return y + _bottleneck(params, name + ".parallel.", x)
    return y


def _bottleneck(params: Mapping[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    inner = F.linear(x, params[prefix + "down.weight"], params[prefix + "down.bias"])
    rectified = inner.clamp(min=0.0)
    return F.linear(rectified, params[prefix + "up.weight"], params[prefix + "up.bias"])
