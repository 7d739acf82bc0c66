"""ScaleFL's sub-models: fewer blocks and narrower ones, cut from the full model by leading indices.

ScaleFL (Ilhan et al., CVPR 2023) as ReeFL's released code runs it, with one departure: the released
code cuts the leading rows of the fused attention weights whatever the heads, so that a narrow head
is made of pieces of several; here each head keeps its own leading dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from reefleet.learning.network import Network
from reefleet.model import ConvGeometry, ModelSpec, Shape

Indices = tuple[NDArray[np.int64], ...]
Arrays = dict[str, NDArray[np.float32]]

# Share of the width at each exit, by the number of exits; published values.
PUBLISHED: Mapping[int, tuple[float, ...]] = {
    4: (0.40, 0.55, 0.75, 1.0),
    12: (0.25, 0.30, 0.35, 0.40, 0.48, 0.55, 0.61, 0.69, 0.75, 0.84, 0.92, 1.0),
}
FUSED = 3  # q, k and v in one weight
LORA_OUTPUTS = (".attn.lora_q.b", ".attn.lora_v.b")


def shares_of(spec: ModelSpec) -> tuple[float, ...]:
    """Share of the width at each exit: published, or in equal steps where nothing was published."""
    count = len(spec.exits)
    return PUBLISHED.get(count) or tuple((rank + 1) / count for rank in range(count))


def narrowed(spec: ModelSpec, depth: int) -> ModelSpec:
    """Geometry of the sub-model of the tier `depth`: token and channels at its share, rounded up.

    The width of a transformer's token is the next multiple of the heads.
    """
    share = shares_of(spec)[spec.exits.index(depth)]
    each = min(spec.width // spec.heads, _cut(spec.width / spec.heads, share))
    conv = spec.conv and ConvGeometry(
        _cut(spec.conv.stem, share),
        tuple(_cut(channels, share) for channels in spec.conv.widths[:depth]),
        spec.conv.strides[:depth],
    )
    exits = spec.exits_within(depth)
    return replace(spec, width=each * spec.heads, depth=depth, exits=exits, conv=conv)


def tier_network(network: Network, rule: str, depth: int) -> Network:
    """The network that a client of this depth trains under a server's rule."""
    if rule != "widths":
        return network
    return replace(network, spec=narrowed(network.spec, depth))


@dataclass(slots=True, eq=False)
class Widths:
    """The rule: cuts of the model by tier, and the unweighted mean of each element's holders."""

    network: Network
    _sums: Arrays = field(default_factory=dict)
    _holders: Arrays = field(default_factory=dict)

    def cut(self, model: Mapping[str, NDArray[np.float32]], depth: int) -> Arrays:
        """The tier's sub-model."""
        shapes = tier_network(self.network, "widths", depth).shapes(depth)
        return {n: model[n][np.ix_(*self._held(n, shape))] for n, shape in shapes.items()}

    def fold(self, model: Mapping[str, NDArray[np.float32]], delta: Arrays) -> None:
        """Take one client's update of the elements it holds."""
        for name, change in delta.items():
            if name not in self._sums:
                self._sums[name] = np.zeros_like(model[name])
                self._holders[name] = np.zeros_like(model[name])
            held = np.ix_(*self._held(name, change.shape))
            self._sums[name][held] += change
            self._holders[name][held] += 1

    def finish(self, model: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """The new model; an element that nobody held is unchanged. Forgets the round."""
        sums, holders, self._sums, self._holders = self._sums, self._holders, {}, {}
        return {
            name: value + sums[name] / holders[name].clip(1) if name in sums else value
            for name, value in model.items()
        }

    def _held(self, name: str, shape: Shape) -> Indices:
        if ".attn.qkv." in name or name.endswith((".attn.proj.weight", *LORA_OUTPUTS)):
            return self._held_by_head(name, shape)
        return tuple(np.arange(extent) for extent in shape)

    def _held_by_head(self, name: str, shape: Shape) -> Indices:
        heads, whole = self.network.spec.heads, self.network.spec.width
        axis, parts = 0, FUSED
        if ".attn.qkv." not in name:
            axis, parts = int(name.endswith("proj.weight")), 1
        inner = np.arange(parts * whole).reshape(parts * heads, whole // heads)
        leading = inner[:, : shape[axis] // (parts * heads)].ravel()
        return tuple(leading if at == axis else np.arange(n) for at, n in enumerate(shape))


def _cut(extent: float, share: float) -> int:
    return -int(-share * extent // 1)
