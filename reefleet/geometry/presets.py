"""Published geometries by name: DeiT (Touvron et al. 2021) in its three sizes."""

from __future__ import annotations

from dataclasses import replace

from reefleet.errors import ConfigError
from reefleet.geometry.spec import ModelSpec

_WIDTHS = {"deit-tiny": 192, "deit-small": 384, "deit-base": 768}
NAMES = tuple(_WIDTHS)
HEAD_WIDTH = 64
_DEIT = ModelSpec(
    image_size=224,
    patch_size=16,
    channels=3,
    width=HEAD_WIDTH,
    heads=1,
    depth=12,
    classes=1000,
    exits=(3, 6, 9, 12),
)


def preset(
    name: str,
    classes: int,
    image_size: int = 224,
    patch_size: int = 16,
    channels: int = 3,
    exits: tuple[int, ...] = (3, 6, 9, 12),
) -> ModelSpec:
    """The named backbone with this input and these exits; raises ConfigError."""
    if name not in _WIDTHS:
        msg = f"there is no model {name!r}; choose one of {', '.join(NAMES)}"
        raise ConfigError(msg)
    width = _WIDTHS[name]
    return replace(
        _DEIT,
        width=width,
        heads=width // HEAD_WIDTH,
        classes=classes,
        image_size=image_size,
        patch_size=patch_size,
        channels=channels,
        exits=exits,
    )
