"""The shape of a ReeFL network: which tensors exist, which a device of some depth holds.

ReeFL (ICML 2024) section 3: a ViT backbone of `depth` blocks, one shared recurrent exit module
(Ree) and one shared classifier. No array library is needed to reason about shapes, so the
coordinator and the planner use this module as the learning core does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from reefleet.errors import ConfigError

Shape = tuple[int, ...]

QUANTIZED_LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Geometry of the full model. `exits` are 1-based depths (blocks kept), the last is `depth`."""

    image_size: int
    patch_size: int
    channels: int
    width: int
    heads: int
    depth: int
    classes: int
    exits: tuple[int, ...]
    mlp_ratio: int = 4
    ree_heads: int = 8
    ree_width: int = 16
    ree_hidden: int = 0  # 0: 1.35 x width, the published ratio

    def __post_init__(self) -> None:
        """Refuse a geometry that no network can have, naming the value."""
        _require_positive(self)
        if self.image_size % self.patch_size:
            msg = f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            raise ConfigError(msg)
        if self.width % self.heads or self.ree_width % self.ree_heads:
            msg = "width must be a multiple of heads, and ree_width of ree_heads"
            raise ConfigError(msg)
        rising = list(self.exits) == sorted(set(self.exits))
        if not rising or self.exits[0] < 1 or self.exits[-1] != self.depth:
            msg = f"exits {self.exits} must rise from 1 or more and end at depth {self.depth}"
            raise ConfigError(msg)

    @property
    def tokens(self) -> int:
        """Sequence length: patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @property
    def patch_values(self) -> int:
        """Values in one flattened patch."""
        return self.channels * self.patch_size**2

    @property
    def hidden(self) -> int:
        """Width of a block's feed-forward layer."""
        return self.mlp_ratio * self.width

    @property
    def ree_ffn(self) -> int:
        """Width of Ree's feed-forward layer."""
        return self.ree_hidden or int(1.35 * self.width)

    def exits_within(self, depth: int) -> tuple[int, ...]:
        """Exits that a sub-model of `depth` blocks holds; raises ConfigError where it has none."""
        if depth not in self.exits:
            msg = f"depth {depth} is not one of the exits {self.exits}"
            raise ConfigError(msg)
        return tuple(e for e in self.exits if e <= depth)

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests and configuration."""
        return {**asdict(self), "exits": list(self.exits)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Read what `to_json` wrote; raises ConfigError naming an unknown or missing key."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            msg = f"unknown model key {unknown[0]!r}"
            raise ConfigError(msg)
        required = known - {"mlp_ratio", "ree_heads", "ree_width", "ree_hidden"}
        if missing := sorted(required - set(values)):
            msg = f"model key {missing[0]!r} is missing"
            raise ConfigError(msg)
        exits = values["exits"]
        if not isinstance(exits, list | tuple) or not all(isinstance(e, int) for e in exits):
            msg = "model key 'exits' must be a list of integers"
            raise ConfigError(msg)
        return cls(**{**values, "exits": tuple(exits)})


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Input contract: grey or RGB image, resized to `size`, value/255, then (v - mean) / std."""

    size: int
    channels: int
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class ModelContract:
    """What every bundle of one model agrees on: geometry, input and labels."""

    spec: ModelSpec
    preprocessing: Preprocessing
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse labels or an input that the geometry cannot have."""
        if len(self.labels) != self.spec.classes:
            msg = f"{len(self.labels)} labels for {self.spec.classes} classes"
            raise ConfigError(msg)
        pre = self.preprocessing
        if (pre.size, pre.channels) != (self.spec.image_size, self.spec.channels):
            msg = "preprocessing size and channels differ from the model's"
            raise ConfigError(msg)
        if not pre.std > 0:
            msg = f"preprocessing std is {pre.std}; it must be positive"
            raise ConfigError(msg)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the contract file that coordinator and export share."""
        return {
            "model": self.spec.to_json(),
            "preprocessing": asdict(self.preprocessing),
            "labels": list(self.labels),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelContract:
        """Read what `to_json` wrote; raises ConfigError naming what is wrong."""
        try:
            return cls(
                ModelSpec.from_json(values["model"]),
                Preprocessing(**values["preprocessing"]),
                tuple(str(label) for label in values["labels"]),
            )
        except (KeyError, TypeError) as error:
            msg = f"the model contract is incomplete: {error}"
            raise ConfigError(msg) from error


def tensor_shapes(spec: ModelSpec, depth: int | None = None) -> dict[str, Shape]:
    """Name and shape of each tensor in the sub-model of `depth` blocks, in a fixed order.

    Each row of the depth embedding is a tensor of its own (`ree.depth_embed.i`), so a device of
    depth d simply does not hold the rows it cannot train, and no mask is needed when averaging.
    """
    depth = spec.depth if depth is None else depth
    d = spec.width
    shapes: dict[str, Shape] = {
        "patch_embed.weight": (d, spec.patch_values),
        "patch_embed.bias": (d,),
        "cls_token": (1, d),
        "pos_embed": (spec.tokens, d),
    }
    for index in range(depth):
        shapes |= _block_shapes(f"blocks.{index}.", d, 3 * d, d, spec.hidden)
    shapes["ree.meta_token"] = (1, d)
    shapes |= {f"ree.depth_embed.{row}": (1, d) for row in range(depth + 1)}
    shapes |= _block_shapes("ree.", d, 3 * spec.ree_width, spec.ree_width, spec.ree_ffn)
    shapes |= {
        "head.norm.weight": (d,),
        "head.norm.bias": (d,),
        "head.weight": (spec.classes, d),
        "head.bias": (spec.classes,),
    }
    return shapes


def quantized_tensors(spec: ModelSpec, depth: int | None = None) -> tuple[str, ...]:
    """Weights that carry a codebook: the backbone's linear layers, chosen by role, not by shape."""
    depth = spec.depth if depth is None else depth
    return tuple(f"blocks.{i}.{layer}.weight" for i in range(depth) for layer in QUANTIZED_LAYERS)


def parameter_count(spec: ModelSpec, depth: int | None = None) -> int:
    """Number of weights in the sub-model."""
    return sum(_size(shape) for shape in tensor_shapes(spec, depth).values())


def packed_bytes(spec: ModelSpec, depth: int, bits: int) -> int:
    """Bytes of the packed sub-model: b bits a quantized weight, its codebook, the rest float32."""
    shapes = tensor_shapes(spec, depth)
    coded = quantized_tensors(spec, depth)
    weights = sum(_size(shapes[name]) for name in coded)
    rest = sum(_size(shape) for shape in shapes.values()) - weights
    return rest * 4 + (weights * bits + 7) // 8 + len(coded) * ((1 << bits) + 4)


def forward_macs(spec: ModelSpec, depth: int) -> int:
    """Multiply-accumulates of one forward pass through `depth` blocks, all their exits and Ree."""
    n, d = spec.tokens, spec.width
    block = n * d * (4 * d + 2 * spec.hidden) + 2 * n * n * d
    embed = (n - 1) * spec.patch_values * d
    per_token = d * (4 * spec.ree_width + 2 * spec.ree_ffn)
    ree = sum((i + 1) * per_token + 2 * (i + 1) ** 2 * spec.ree_width for i in range(1, depth + 1))
    return embed + depth * block + ree + len(spec.exits_within(depth)) * d * spec.classes


def _block_shapes(prefix: str, d: int, qkv: int, inner: int, hidden: int) -> dict[str, Shape]:
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


def _require_positive(spec: ModelSpec) -> None:
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.name == "exits":
            if not value:
                msg = "exits is empty"
                raise ConfigError(msg)
        elif type(value) is not int or value < (field.name != "ree_hidden"):
            msg = f"{field.name} is {value!r}; it must be a positive whole number"
            raise ConfigError(msg)


def _size(shape: Shape) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
