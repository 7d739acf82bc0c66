"""The convolutional backbone's tensors and costs.

A map is [H, W, C], channels last. Block i: 1x1 expand to E = mlp_ratio * C_in, depthwise 3x3 with
the block's stride, 1x1 project to C_out; `features.i` takes pooled rows and columns to the token
width D.
"""

from __future__ import annotations

import math

from reefleet.geometry.spec import ConvGeometry, ModelSpec, Shape, Site

TAPS = 9  # of a 3x3 kernel
# By role: the 1x1 convolutions hold nearly all weights of a block. The stem sees raw pixels and a
# depthwise kernel has 9 weights a channel, so few bits would cost accuracy and save nothing; what
# leads to and from Ree (`features`, `modulation`) stays float as Ree does.
QUANTIZED_LAYERS = ("expand", "project")


def channels_in(spec: ModelSpec, index: int) -> int:
    """Channels of the map that enters block `index`."""
    conv = geometry(spec)
    return conv.widths[index - 1] if index else conv.stem


def expanded(spec: ModelSpec, index: int) -> int:
    """Channels inside block `index`."""
    return spec.mlp_ratio * channels_in(spec, index)


def residual(spec: ModelSpec, index: int) -> bool:
    """Whether block `index` keeps the shape of its input, and so adds to it."""
    conv = geometry(spec)
    return conv.strides[index] == 1 and conv.widths[index] == channels_in(spec, index)


def entry_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Tensors before block 0."""
    stem = geometry(spec).stem
    return {"stem.weight": (stem, spec.patch_values), "stem.bias": (stem,)}


def block_shapes(spec: ModelSpec, index: int) -> dict[str, Shape]:
    """Tensors of block `index`."""
    inner, before, after = (
        expanded(spec, index),
        channels_in(spec, index),
        geometry(spec).widths[index],
    )
    prefix = f"blocks.{index}."
    return {
        prefix + "expand.weight": (inner, before),
        prefix + "expand.bias": (inner,),
        prefix + "depthwise.weight": (inner, TAPS),
        prefix + "depthwise.bias": (inner,),
        prefix + "project.weight": (after, inner),
        prefix + "project.bias": (after,),
    }


def feature_shapes(spec: ModelSpec, index: int) -> dict[str, Shape]:
    """Tensors that make block `index`'s token."""
    prefix, d = f"features.{index}.", spec.width
    return {prefix + "weight": (d, geometry(spec).widths[index]), prefix + "bias": (d,)}


def modulation_shapes(spec: ModelSpec, index: int) -> dict[str, Shape]:
    """Tensors that give the modulated token back before block `index`."""
    if index == 0:
        return {}
    return {f"blocks.{index}.modulation.weight": (channels_in(spec, index), spec.width)}


def quantized_layers(spec: ModelSpec, index: int) -> tuple[str, ...]:  # noqa: ARG001  # one protocol
    """Names of the quantized layers of block `index`."""
    return tuple(f"blocks.{index}.{layer}" for layer in QUANTIZED_LAYERS)


def entry_macs(spec: ModelSpec) -> int:
    """Multiply-accumulates before block 0."""
    return math.prod(spec.grid) * spec.patch_values * geometry(spec).stem


def block_macs(spec: ModelSpec, index: int) -> int:
    """Multiply-accumulates of block `index`."""
    before, after = _positions(spec, index), _positions(spec, index + 1)
    inner = expanded(spec, index)
    out = geometry(spec).widths[index]
    return before * channels_in(spec, index) * inner + after * inner * (TAPS + out)


def feature_macs(spec: ModelSpec, index: int) -> int:
    """Multiply-accumulates of the feature of block `index`."""
    rows, columns, channels = state_shape(spec, index + 1)
    return (rows + columns) * channels * spec.width


def modulation_macs(spec: ModelSpec, index: int) -> int:
    """Multiply-accumulates of giving the modulated token back before block `index`."""
    return channels_in(spec, index) * spec.width if index else 0


def state_shape(spec: ModelSpec, depth: int) -> Shape:
    """What one sample is after `depth` blocks: a map [H, W, C]."""
    rows, columns = spec.grid
    for stride in geometry(spec).strides[:depth]:
        rows, columns = -(-rows // stride), -(-columns // stride)
    return rows, columns, channels_in(spec, depth)


def kept_values(spec: ModelSpec, index: int) -> int:
    """Values that block `index` keeps for the backward pass of one sample."""
    before, after = _positions(spec, index), _positions(spec, index + 1)
    inner = expanded(spec, index)
    return before * (channels_in(spec, index) + 2 * inner) + after * 2 * inner


def attention_pairs(spec: ModelSpec, depth: int) -> int:  # noqa: ARG001
    """None: there is no attention but Ree's."""
    return 0


def lora_sites(spec: ModelSpec, index: int) -> dict[str, Site]:
    """Products of block `index` that low-rank matrices are added to: both 1x1 convolutions."""
    before, inner = channels_in(spec, index), expanded(spec, index)
    after = geometry(spec).widths[index]
    return {
        f"blocks.{index}.expand.lora": Site(before, inner, _positions(spec, index)),
        f"blocks.{index}.project.lora": Site(inner, after, _positions(spec, index + 1)),
    }


def adapter_sites(spec: ModelSpec, index: int, *, parallel: bool) -> dict[str, Site]:
    """What an adapter follows in block `index`, or stands beside where input and output agree."""
    if parallel and not residual(spec, index):
        return {}
    after = geometry(spec).widths[index]
    return {f"blocks.{index}.project": Site(after, after, _positions(spec, index + 1))}


def deviation(spec: ModelSpec, name: str, shape: Shape) -> float | None:
    """Deviation of a matrix's first values, None for those that are no part of this backbone.

    A map of unit variance keeps it: half is lost by what a ReLU6 has clipped. Residual branches
    start smaller by the root of the depth, so that their sum does not grow with it.
    """
    if name.endswith("modulation.weight"):
        return 0.0
    if name.startswith(("stem.", "features.")) or name.endswith("expand.weight"):
        return float(shape[-1] ** -0.5)
    if not name.startswith("blocks."):
        return None
    index = int(name.split(".")[1])
    branch = name.endswith("project.weight") and residual(spec, index)
    return float((2 / shape[-1]) ** 0.5 * (spec.depth**-0.5 if branch else 1.0))


def geometry(spec: ModelSpec) -> ConvGeometry:
    """The convolutional part of a spec that has one."""
    if spec.conv is None:
        raise TypeError(spec)
    return spec.conv


def _positions(spec: ModelSpec, depth: int) -> int:
    rows, columns, _ = state_shape(spec, depth)
    return rows * columns
