"""The shape of a model: which tensors exist, which a device of some depth holds, what they cost.

ReeFL (ICML 2024) section 3: a backbone of `depth` blocks (`reefleet.geometry`: a ViT, or inverted
residual convolutions), one shared recurrent exit module (Ree) and one shared classifier. No array
library is needed to reason about shapes, so the coordinator and the planner use this module as the
learning core does.
"""

from __future__ import annotations

from collections.abc import Sequence

from reefleet.errors import ConfigError
from reefleet.geometry.backbone import geometry_of
from reefleet.geometry.contract import LogMel, ModelContract, Preprocessing
from reefleet.geometry.exits import head_macs, head_shapes, ree_macs, ree_shapes
from reefleet.geometry.spec import ADAPTERS, CONV, VIT, ConvGeometry, ModelSpec, Shape
from reefleet.geometry.trained import (
    adapter_macs,
    adapter_shapes,
    is_nothing,
    is_trained,
    require_set,
)

__all__ = [
    "ADAPTERS",
    "CONV",
    "VIT",
    "ConvGeometry",
    "LogMel",
    "ModelContract",
    "ModelSpec",
    "Preprocessing",
    "Shape",
    "activation_values",
    "attention_pairs",
    "coded_bytes",
    "first_deviation",
    "forward_macs",
    "head_tensor_shapes",
    "kept_values",
    "packed_bytes",
    "parameter_count",
    "plain_forward_macs",
    "quantized_tensors",
    "sent_shapes",
    "state_shape",
    "tensor_shapes",
]


def tensor_shapes(spec: ModelSpec, depth: int | None = None) -> dict[str, Shape]:
    """Name and shape of each tensor in the sub-model of `depth` blocks, in a fixed order."""
    depth = spec.depth if depth is None else depth
    geometry = geometry_of(spec)
    shapes = geometry.entry_shapes(spec)
    for index in range(depth):
        shapes |= geometry.modulation_shapes(spec, index)
        shapes |= geometry.block_shapes(spec, index)
    for index in range(depth):
        shapes |= geometry.feature_shapes(spec, index)
    shapes |= ree_shapes(spec, depth)
    return {**shapes, **adapter_shapes(spec, depth, shapes)}


def sent_shapes(spec: ModelSpec, depth: int, trained: str) -> dict[str, Shape]:
    """Of these, what training with this set moves and a device sends; raises ConfigError."""
    require_set(spec, trained)
    shapes = tensor_shapes(spec, depth)
    return {name: shape for name, shape in shapes.items() if is_trained(name, trained)}


def head_tensor_shapes(spec: ModelSpec, depth: int) -> dict[str, Shape]:
    """The same for a network of plain heads: nothing is given back."""
    geometry = geometry_of(spec)
    shapes = geometry.entry_shapes(spec)
    for index in range(depth):
        shapes |= geometry.block_shapes(spec, index)
    for index in range(depth):
        shapes |= geometry.feature_shapes(spec, index)
    shapes |= head_shapes(spec, depth)
    return {**shapes, **adapter_shapes(spec, depth, shapes)}


def quantized_tensors(spec: ModelSpec, depth: int | None = None) -> tuple[str, ...]:
    """Weights that carry a codebook: the backbone's linear layers, chosen by role, not by shape."""
    depth = spec.depth if depth is None else depth
    layers = geometry_of(spec).quantized_layers
    return tuple(f"{layer}.weight" for index in range(depth) for layer in layers(spec, index))


def parameter_count(spec: ModelSpec, depth: int | None = None) -> int:
    """Number of weights in the sub-model."""
    return sum(_size(shape) for shape in tensor_shapes(spec, depth).values())


def packed_bytes(spec: ModelSpec, depth: int, bits: int | Sequence[int]) -> int:
    """Bytes of the packed sub-model: codes and codebook of each quantized weight, the rest float32.

    `bits` is one width for all of them, or one for each of `quantized_tensors`; raises ConfigError
    for another number of widths.
    """
    shapes = tensor_shapes(spec, depth)
    coded = quantized_tensors(spec, depth)
    widths = [bits] * len(coded) if isinstance(bits, int) else bits
    if len(widths) != len(coded):
        msg = f"there are {len(widths)} bit-widths for {len(coded)} quantized tensors"
        raise ConfigError(msg)
    rest = sum(_size(shape) for name, shape in shapes.items() if name not in set(coded))
    codes = (coded_bytes(_size(shapes[n]), width) for n, width in zip(coded, widths, strict=True))
    return rest * 4 + sum(codes)


def coded_bytes(weights: int, bits: int) -> int:
    """Bytes of so many weights at `bits` each, with their codebook's int8 steps and scale."""
    return (weights * bits + 7) // 8 + (1 << bits) + 4


def forward_macs(spec: ModelSpec, depth: int) -> int:
    """Multiply-accumulates of one forward pass through `depth` blocks, all their exits and Ree."""
    geometry = geometry_of(spec)
    tokens = sum(
        geometry.feature_macs(spec, index) + geometry.modulation_macs(spec, index)
        for index in range(depth)
    )
    return _backbone_macs(spec, depth) + tokens + ree_macs(spec, depth) + head_macs(spec, depth)


def plain_forward_macs(spec: ModelSpec, depth: int) -> int:
    """The same for a network of plain heads."""
    features = sum(geometry_of(spec).feature_macs(spec, index) for index in range(depth))
    return _backbone_macs(spec, depth) + features + head_macs(spec, depth)


def state_shape(spec: ModelSpec, depth: int) -> Shape:
    """What one sample is after `depth` blocks: ViT tokens [T, D], or a map [H, W, C]."""
    return geometry_of(spec).state_shape(spec, depth)


def activation_values(spec: ModelSpec, depth: int) -> int:
    """Values that `depth` blocks give for one sample."""
    return sum(_size(state_shape(spec, index + 1)) for index in range(depth))


def kept_values(spec: ModelSpec, depth: int) -> int:
    """Values that `depth` blocks keep for the backward pass of one sample."""
    return sum(geometry_of(spec).kept_values(spec, index) for index in range(depth))


def attention_pairs(spec: ModelSpec, depth: int) -> int:
    """Pairs of tokens that the backbone's attention weighs in `depth` blocks, over all heads."""
    return geometry_of(spec).attention_pairs(spec, depth)


def first_deviation(spec: ModelSpec, name: str, shape: Shape) -> float | None:
    """Deviation of a matrix's first values where its backbone or adapter prescribes one."""
    if is_nothing(name):
        return 0.0
    return geometry_of(spec).deviation(spec, name, shape)


def _backbone_macs(spec: ModelSpec, depth: int) -> int:
    geometry = geometry_of(spec)
    blocks = sum(geometry.block_macs(spec, index) for index in range(depth))
    return geometry.entry_macs(spec) + blocks + adapter_macs(spec, depth)


def _size(shape: Shape) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
