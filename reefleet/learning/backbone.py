"""The protocol of a backbone: blocks that carry a state, and a feature of one width after each.

`reefleet.learning.vit` and `reefleet.learning.conv` are the two; Ree, the exits and the objectives
know no other words. Shapes: B batch, D width of a token.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from reefleet.learning import conv, vit
from reefleet.learning.vit import Params
from reefleet.model import ModelSpec


class Backbone(Protocol):
    """One backbone's module; the state is [B, ...] as `reefleet.model.state_shape` says."""

    def embed(self, params: Params, spec: ModelSpec, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to the state that enters block 0."""

    def block(self, params: Params, spec: ModelSpec, index: int, state: Tensor, /) -> Tensor:
        """The state after block `index`, counted from 0."""

    def feature(
        self, params: Params, spec: ModelSpec, index: int, state: Tensor, before: Tensor | None, /
    ) -> Tensor:
        """The token [B, 1, D] that Ree and the exits read after block `index`.

        `before` is the token that the block was entered with, None before the first.
        """

    def modulated(
        self,
        params: Params,
        spec: ModelSpec,
        index: int,
        state: Tensor,
        token: Tensor,
        /,
        *,
        detached: bool,
    ) -> Tensor:
        """The state that enters block `index` once Ree's token [B, 1, D] is given back to it.

        Detached, no later block sends a gradient through the token to Ree.
        """


def backbone_of(spec: ModelSpec) -> Backbone:
    """The backbone of a model."""
    return vit if spec.conv is None else conv
