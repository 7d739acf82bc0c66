"""What a model is: its input, its backbone, its exits. Plain values that survive JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from reefleet.errors import ConfigError

Shape = tuple[int, ...]

VIT, CONV = "vit", "conv"
ADAPTERS = ("lora", "ssf", "adapters", "parallel-adapters")
DEFAULT_RANK = 8
KINDS = (VIT, CONV)
_MAY_BE_ZERO = frozenset({"ree_hidden", "image_width", "patch_width", "rank"})
_LEFT_OUT = ("image_width", "patch_width", "conv", "adapter", "rank")  # of JSON, where not given
_OPTIONAL = frozenset({"mlp_ratio", "ree_heads", "ree_width", "ree_hidden", *_LEFT_OUT})


@dataclass(frozen=True, slots=True)
class Site:
    """A product that an adapter belongs to: its inputs, outputs, and positions it is made at."""

    inputs: int
    outputs: int
    positions: int


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Channels out of the stem and of each block, and the stride of each block."""

    stem: int
    widths: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse channels or strides that no convolution can have."""
        for name, least, most in (("widths", 1, 1 << 16), ("strides", 1, 2)):
            for value in getattr(self, name):
                if type(value) is not int or not least <= value <= most:
                    msg = f"conv {name} hold {value!r}; each is a whole number {least} to {most}"
                    raise ConfigError(msg)
        if type(self.stem) is not int or self.stem < 1:
            msg = f"conv stem is {self.stem!r}; it must be a positive whole number"
            raise ConfigError(msg)

    @classmethod
    def from_json(cls, values: Any) -> ConvGeometry:
        """Read the plain form; raises ConfigError naming what is wrong."""
        if not isinstance(values, Mapping) or set(values) != {"stem", "widths", "strides"}:
            msg = "model key 'conv' must hold stem, widths and strides"
            raise ConfigError(msg)
        lists = {name: _integers(f"conv.{name}", values[name]) for name in ("widths", "strides")}
        return cls(values["stem"], **lists)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Geometry of the full model. `exits` are 1-based depths (blocks kept), the last is `depth`.

    `image_size` is the height of the input and `image_width` its width, 0 for a square; likewise
    `patch_size` and `patch_width`. `width` is that of a token, which in a convolutional model
    (`conv` given) only Ree and the classifier have; there `patch_size` is the stem's stride,
    `mlp_ratio` the expansion of a block, and `heads` must be 1. `adapter` names the tensors for
    cheap fine-tuning that every block holds besides, "" for none; `rank` is their width, 0 for 8.
    """

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
    image_width: int = 0
    patch_width: int = 0
    conv: ConvGeometry | None = None
    adapter: str = ""
    rank: int = 0

    def __post_init__(self) -> None:
        """Refuse a geometry that no network can have, naming the value."""
        _require_positive(self)
        if self.image_size % self.patch_size:
            msg = f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            raise ConfigError(msg)
        if (across := self.image_shape[2]) % self.patch_shape[1]:
            msg = f"image_width {across} is not a multiple of patch_width {self.patch_shape[1]}"
            raise ConfigError(msg)
        if self.width % self.heads or self.ree_width % self.ree_heads:
            msg = "width must be a multiple of heads, and ree_width of ree_heads"
            raise ConfigError(msg)
        rising = list(self.exits) == sorted(set(self.exits))
        if not rising or self.exits[0] < 1 or self.exits[-1] != self.depth:
            msg = f"exits {self.exits} must rise from 1 or more and end at depth {self.depth}"
            raise ConfigError(msg)
        if self.adapter and self.adapter not in ADAPTERS:
            msg = f"adapter is {self.adapter!r}; it must be one of {', '.join(ADAPTERS)}"
            raise ConfigError(msg)
        if self.conv is not None:
            _require_conv(self, self.conv)

    @property
    def kind(self) -> str:
        """The backbone: `vit` or `conv`."""
        return VIT if self.conv is None else CONV

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return self.channels, self.image_size, self.image_width or self.image_size

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Height and width of a patch."""
        return self.patch_size, self.patch_width or self.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        (_, high, wide), (down, across) = self.image_shape, self.patch_shape
        return high // down, wide // across

    @property
    def tokens(self) -> int:
        """Sequence length: patches and the class token."""
        rows, columns = self.grid
        return rows * columns + 1

    @property
    def patch_values(self) -> int:
        """Values in one flattened patch."""
        down, across = self.patch_shape
        return self.channels * down * across

    @property
    def hidden(self) -> int:
        """Width of a block's feed-forward layer."""
        return self.mlp_ratio * self.width

    @property
    def ree_ffn(self) -> int:
        """Width of Ree's feed-forward layer."""
        return self.ree_hidden or int(1.35 * self.width)

    @property
    def adapter_rank(self) -> int:
        """Rank of low-rank matrices, width of an adapter's bottleneck."""
        return self.rank or DEFAULT_RANK

    def exits_within(self, depth: int) -> tuple[int, ...]:
        """Exits that a sub-model of `depth` blocks holds; raises ConfigError where it has none."""
        if depth not in self.exits:
            msg = f"depth {depth} is not one of the exits {self.exits}"
            raise ConfigError(msg)
        return tuple(e for e in self.exits if e <= depth)

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests and configuration; what only some models have is left out."""
        values = {**asdict(self), "exits": list(self.exits)}
        for name in _LEFT_OUT:
            if not values[name]:
                del values[name]
        if self.conv is not None:
            lists = {"widths": list(self.conv.widths), "strides": list(self.conv.strides)}
            values |= {"kind": CONV, "conv": {"stem": self.conv.stem, **lists}}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Read what `to_json` wrote; raises ConfigError naming an unknown or missing key."""
        given = dict(values)
        kind = given.pop("kind", VIT)
        if kind not in KINDS or (kind == CONV) != ("conv" in given):
            msg = f"model kind is {kind!r}; it is vit, or conv with a table 'conv'"
            raise ConfigError(msg)
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(given) - known):
            msg = f"unknown model key {unknown[0]!r}"
            raise ConfigError(msg)
        if kind == CONV:
            given = {"heads": 1, **given, "conv": ConvGeometry.from_json(given["conv"])}
        if missing := sorted(known - _OPTIONAL - set(given)):
            msg = f"model key {missing[0]!r} is missing"
            raise ConfigError(msg)
        return cls(**{**given, "exits": _integers("exits", given["exits"])})


def _require_positive(spec: ModelSpec) -> None:
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.name in {"conv", "adapter"}:
            continue
        if field.name == "exits":
            if not value:
                msg = "exits is empty"
                raise ConfigError(msg)
        elif type(value) is not int or value < (field.name not in _MAY_BE_ZERO):
            msg = f"{field.name} is {value!r}; it must be a positive whole number"
            raise ConfigError(msg)


def _require_conv(spec: ModelSpec, conv: ConvGeometry) -> None:
    for name in ("widths", "strides"):
        if (found := len(getattr(conv, name))) != spec.depth:
            msg = f"conv {name} has {found} entries; the model has {spec.depth} blocks"
            raise ConfigError(msg)
    if spec.heads != 1:
        msg = f"heads is {spec.heads}; a convolutional model has no attention, so it must be 1"
        raise ConfigError(msg)


def _integers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(e, int) for e in values):
        msg = f"model key {name!r} must be a list of integers"
        raise ConfigError(msg)
    return tuple(values)
