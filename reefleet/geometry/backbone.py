"""The protocol of a backbone's geometry, and which module speaks for a model."""

from __future__ import annotations

from typing import Protocol

from reefleet.geometry import conv, vit
from reefleet.geometry.spec import ModelSpec, Shape, Site


class Geometry(Protocol):
    """What each backbone's module says of its tensors and costs; `index` counts blocks from 0."""

    def entry_shapes(self, spec: ModelSpec) -> dict[str, Shape]:
        """Tensors before block 0."""

    def block_shapes(self, spec: ModelSpec, index: int) -> dict[str, Shape]:
        """Tensors of a block."""

    def feature_shapes(self, spec: ModelSpec, index: int) -> dict[str, Shape]:
        """Tensors that make a block's token, which Ree and the exits read."""

    def modulation_shapes(self, spec: ModelSpec, index: int) -> dict[str, Shape]:
        """Tensors that give Ree's token back to what enters a block."""

    def quantized_layers(self, spec: ModelSpec, index: int) -> tuple[str, ...]:
        """Layers of a block whose weights carry a codebook."""

    def entry_macs(self, spec: ModelSpec) -> int:
        """Multiply-accumulates before block 0."""

    def block_macs(self, spec: ModelSpec, index: int) -> int:
        """Multiply-accumulates of a block."""

    def feature_macs(self, spec: ModelSpec, index: int) -> int:
        """Multiply-accumulates of a block's token."""

    def modulation_macs(self, spec: ModelSpec, index: int) -> int:
        """Multiply-accumulates of giving the token back."""

    def state_shape(self, spec: ModelSpec, depth: int) -> Shape:
        """What one sample is after `depth` blocks."""

    def kept_values(self, spec: ModelSpec, index: int) -> int:
        """Values that a block keeps for the backward pass of one sample."""

    def lora_sites(self, spec: ModelSpec, index: int) -> dict[str, Site]:
        """Products of a block that low-rank matrices are added to."""

    def adapter_sites(self, spec: ModelSpec, index: int, *, parallel: bool) -> dict[str, Site]:
        """What adapters of a block follow, or stand beside."""

    def deviation(self, spec: ModelSpec, name: str, shape: Shape) -> float | None:
        """Deviation of a matrix's first values where the backbone prescribes one."""

    def attention_pairs(self, spec: ModelSpec, depth: int) -> int:
        """Pairs of tokens that attention weighs in `depth` blocks."""


def geometry_of(spec: ModelSpec) -> Geometry:
    """What speaks for the backbone of this model."""
    return vit if spec.conv is None else conv
