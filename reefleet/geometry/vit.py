"""The ViT backbone's tensors and costs. A token is D wide; a block keeps its shape."""

from __future__ import annotations

from reefleet.geometry.spec import ModelSpec, Shape, Site

QUANTIZED_LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def entry_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Tensors before block 0."""
    return {
        "patch_embed.weight": (spec.width, spec.patch_values),
        "patch_embed.bias": (spec.width,),
        "cls_token": (1, spec.width),
        "pos_embed": (spec.tokens, spec.width),
    }


def block_shapes(spec: ModelSpec, index: int) -> dict[str, Shape]:
    """Tensors of block `index`."""
    d = spec.width
    return transformer_shapes(f"blocks.{index}.", d, 3 * d, d, spec.hidden)


def feature_shapes(spec: ModelSpec, index: int) -> dict[str, Shape]:  # noqa: ARG001  # one protocol
    """Nothing: the class token is the feature as it is."""
    return {}


def modulation_shapes(spec: ModelSpec, index: int) -> dict[str, Shape]:  # noqa: ARG001
    """Nothing: the modulated token replaces the class token."""
    return {}


def quantized_layers(spec: ModelSpec, index: int) -> tuple[str, ...]:  # noqa: ARG001
    """Names of the quantized layers of block `index`."""
    return tuple(f"blocks.{index}.{layer}" for layer in QUANTIZED_LAYERS)


def entry_macs(spec: ModelSpec) -> int:
    """Multiply-accumulates before block 0."""
    return (spec.tokens - 1) * spec.patch_values * spec.width


def block_macs(spec: ModelSpec, index: int) -> int:  # noqa: ARG001
    """Multiply-accumulates of block `index`."""
    n, d = spec.tokens, spec.width
    return n * d * (4 * d + 2 * spec.hidden) + 2 * n * n * d


def feature_macs(spec: ModelSpec, index: int) -> int:  # noqa: ARG001
    """Multiply-accumulates of the feature of block `index`."""
    return 0


def modulation_macs(spec: ModelSpec, index: int) -> int:  # noqa: ARG001
    """Multiply-accumulates of giving the modulated token back before block `index`."""
    return 0


def state_shape(spec: ModelSpec, depth: int) -> Shape:  # noqa: ARG001
    """What one sample is after `depth` blocks: tokens [T, D]."""
    return spec.tokens, spec.width


def kept_values(spec: ModelSpec, index: int) -> int:  # noqa: ARG001
    """Values that block `index` keeps for the backward pass of one sample."""
    return spec.tokens * (16 * spec.width + spec.heads * spec.tokens)


def attention_pairs(spec: ModelSpec, depth: int) -> int:
    """Pairs of tokens that attention weighs in `depth` blocks, over all heads."""
    return depth * spec.heads * spec.tokens**2


def lora_sites(spec: ModelSpec, index: int) -> dict[str, Site]:
    """Products of block `index` that low-rank matrices are added to: queries and values."""
    site = Site(spec.width, spec.width, spec.tokens)
    return {f"blocks.{index}.attn.lora_{part}": site for part in ("q", "v")}


def adapter_sites(spec: ModelSpec, index: int, *, parallel: bool) -> dict[str, Site]:  # noqa: ARG001
    """Parts of block `index` that an adapter follows, or stands beside."""
    site = Site(spec.width, spec.width, spec.tokens)
    return {f"blocks.{index}.{part}": site for part in ("attn", "mlp")}


def deviation(spec: ModelSpec, name: str, shape: Shape) -> float | None:  # noqa: ARG001
    """None is prescribed."""
    return None


def transformer_shapes(prefix: str, d: int, qkv: int, inner: int, hidden: int) -> dict[str, Shape]:
    """Tensors of one pre-norm transformer layer under `prefix`."""
    shapes: dict[str, Shape] = {
        "norm1.weight": (d,),
        "norm1.bias": (d,),
        "attn.qkv.weight": (qkv, d),
        "attn.qkv.bias": (qkv,),
        "attn.proj.weight": (d, inner),
        "attn.proj.bias": (d,),
        "norm2.weight": (d,),
        "norm2.bias": (d,),
        "mlp.fc1.weight": (hidden, d),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (d, hidden),
        "mlp.fc2.bias": (d,),
    }
    return {prefix + name: shape for name, shape in shapes.items()}
