"""What stands on a backbone: Ree with the shared classifier, or a plain head at every exit."""

from __future__ import annotations

from reefleet.geometry.spec import ModelSpec, Shape
from reefleet.geometry.vit import transformer_shapes


def ree_shapes(spec: ModelSpec, depth: int) -> dict[str, Shape]:
    """Ree and the shared classifier of a sub-model of `depth` blocks.

    Each row of the depth embedding is a tensor of its own (`ree.depth_embed.i`), so a device of
    depth d simply does not hold the rows it cannot train, and no mask is needed when averaging.
    """
    d = spec.width
    shapes: dict[str, Shape] = {"ree.meta_token": (1, d)}
    shapes |= {f"ree.depth_embed.{row}": (1, d) for row in range(depth + 1)}
    shapes |= transformer_shapes("ree.", d, 3 * spec.ree_width, spec.ree_width, spec.ree_ffn)
    return {**shapes, **_classifier("head.", spec)}


def head_shapes(spec: ModelSpec, depth: int) -> dict[str, Shape]:
    """A LayerNorm and a linear layer for each exit within `depth`."""
    shapes: dict[str, Shape] = {}
    for exit_depth in spec.exits_within(depth):
        shapes |= _classifier(f"exits.{exit_depth}.", spec)
    return shapes


def ree_macs(spec: ModelSpec, depth: int) -> int:
    """Multiply-accumulates of Ree at every block, the history growing by one each time."""
    per_token = spec.width * (4 * spec.ree_width + 2 * spec.ree_ffn)
    return sum(
        length * per_token + 2 * length**2 * spec.ree_width for length in range(2, depth + 2)
    )


def head_macs(spec: ModelSpec, depth: int) -> int:
    """Multiply-accumulates of the classifier at every exit within `depth`."""
    return len(spec.exits_within(depth)) * spec.width * spec.classes


def _classifier(prefix: str, spec: ModelSpec) -> dict[str, Shape]:
    d = spec.width
    shapes: dict[str, Shape] = {
        "norm.weight": (d,),
        "norm.bias": (d,),
        "weight": (spec.classes, d),
        "bias": (spec.classes,),
    }
    return {prefix + name: shape for name, shape in shapes.items()}
