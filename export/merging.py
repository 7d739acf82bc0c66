"""What a trained set added, merged into the layers it belongs to, where the sum is a layer again.

With W, b of a layer on x::

    LoRA   W x + s B A x          = (W + s B A) x                     Hu et al. 2021, section 4.1
    SSF    g (W x + b) + h        = (g W) x + (g b + h)               Lian et al. 2022, equation 6

Adapters have a nonlinearity inside and stay layers of their own. So does everything beside a weight
that carries codes: merged, it would not be on its grid any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reefleet.learning.adapters import LORA_SCALE
from reefleet.model import ModelSpec, tensor_shapes
from reefleet.wire.tensors import CodebookTensor, EncodedTensor, Float32Tensor

_ROWS = ("lora_q", "lora_k", "lora_v")  # the thirds of the matrix of queries, keys and values
_GAIN, _SHIFT = ".ssf.gain", ".ssf.shift"

Arrays = dict[str, NDArray[np.float32]]


def merge(
    tensors: Mapping[str, EncodedTensor], spec: ModelSpec, depth: int
) -> tuple[Mapping[str, EncodedTensor], ModelSpec]:
    """The same function with fewer tensors, and the geometry that has just those."""
    coded = any(isinstance(tensor, CodebookTensor) for tensor in tensors.values())
    if coded or spec.adapter not in {"lora", "ssf"}:
        return tensors, spec
    values = {name: np.array(tensor.decode()) for name, tensor in tensors.items()}
    (_merge_low_rank if spec.adapter == "lora" else _merge_gains)(values)
    plain = replace(spec, adapter="", rank=0)
    return {name: Float32Tensor(values[name]) for name in tensor_shapes(plain, depth)}, plain


def _merge_low_rank(values: Arrays) -> None:
    for name in [name for name in values if name.endswith(".a") and "lora" in name]:
        layer, _, site = name.removesuffix(".a").rpartition(".")
        change = LORA_SCALE * (values[name.removesuffix("a") + "b"] @ values[name])
        if site in _ROWS:
            first = _ROWS.index(site) * len(change)
            values[f"{layer}.qkv.weight"][first : first + len(change)] += change
        else:
            values[f"{layer}.weight"] += change


def _merge_gains(values: Arrays) -> None:
    for name in [name for name in values if name.endswith(_GAIN)]:
        layer = name.removesuffix(_GAIN)
        gain, weight = values[name], values[f"{layer}.weight"]
        values[f"{layer}.weight"] = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
        values[f"{layer}.bias"] = values[f"{layer}.bias"] * gain + values[layer + _SHIFT]
