"""A network as an objective sees it: which tensors a depth holds, which are trained, its logits.

Trained sets: `full`; `frozen` trains the exits (and Ree) alone; `lora` adds low-rank matrices on q
and v (Hu et al. 2021; rank r, scale 2). What is not trained is no argument of the gradient, so
autograd computes neither its gradient nor, where nothing below needs one, the pass through it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reefleet.learning.heads import head_logits, head_shapes
from reefleet.learning.ree import Modulation, exit_logits
from reefleet.learning.vit import Params
from reefleet.model import ModelSpec, Shape, forward_macs, tensor_shapes
from reefleet.wire.checkpoint import initial

TrainedSet = Literal["full", "frozen", "lora"]

BACKBONE = ("blocks.", "patch_embed.", "cls_token", "pos_embed")
LORA_SCALE = 2.0  # the published alpha 64 at rank 32
LORA_TARGETS = ("q", "v")


@dataclass(frozen=True, slots=True)
class Network:
    """Ree over the backbone (`exits` = "ree") or plain heads ("heads"), with its trained set."""

    spec: ModelSpec
    exits: Literal["ree", "heads"] = "ree"
    modulation: Modulation = "on"
    trained: TrainedSet = "full"
    lora_rank: int = 8

    def shapes(self, depth: int) -> dict[str, Shape]:
        """Every tensor of the sub-model, trained or not."""
        plain = tensor_shapes if self.exits == "ree" else head_shapes
        shapes = plain(self.spec, depth)
        return {**shapes, **self._lora(depth)} if self.trained == "lora" else shapes

    def trained_names(self, depth: int) -> tuple[str, ...]:
        """Tensors that training moves and a device sends."""
        names = self.shapes(depth)
        if self.trained == "full":
            return tuple(names)
        adapters = self._lora(depth) if self.trained == "lora" else {}
        return tuple(n for n in names if n in adapters or not n.startswith(BACKBONE))

    def logits(self, params: Params, depth: int, images: Tensor) -> Tensor:
        """Logits [B, E, classes] of every exit within `depth`."""
        whole = self._merged(params, depth) if self.trained == "lora" else params
        if self.exits == "ree":
            return exit_logits(whole, self.spec, depth, images, self.modulation)
        return head_logits(whole, self.spec, depth, images)

    def macs(self, depth: int) -> int:
        """Multiply-accumulates of one forward pass through `depth` blocks and all their exits."""
        whole, spec = forward_macs(self.spec, depth), self.spec
        if self.exits == "ree":
            return whole
        per_token = spec.width * (4 * spec.ree_width + 2 * spec.ree_ffn)
        return whole - sum(
            length * per_token + 2 * length**2 * spec.ree_width for length in range(2, depth + 2)
        )

    def initial(self, seed: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """First values at full depth: the backbone is the same whatever the exits."""
        common = initial(self.spec, seed)
        rng = np.random.default_rng([seed, 1])
        values = {}
        for name, shape in self.shapes(self.spec.depth).items():
            if name in common:
                values[name] = common[name]
            elif len(shape) == 1:
                values[name] = np.full(shape, float(name.endswith("norm.weight")), np.float32)
            else:
                spread = 0.0 if name.endswith(".b") else 0.4 / math.sqrt(shape[-1])
                values[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
        return values

    def _lora(self, depth: int) -> dict[str, Shape]:
        width, rank = self.spec.width, self.lora_rank
        return {
            f"blocks.{index}.attn.lora_{target}.{side}": shape
            for index in range(depth)
            for target in LORA_TARGETS
            for side, shape in (("a", (rank, width)), ("b", (width, rank)))
        }

    def _merged(self, params: Params, depth: int) -> Mapping[str, Tensor]:
        whole = dict(params)
        for index in range(depth):
            prefix = f"blocks.{index}.attn."
            moved = [
                params[f"{prefix}lora_{t}.b"] @ params[f"{prefix}lora_{t}.a"] for t in LORA_TARGETS
            ]
            change = torch.cat([moved[0], torch.zeros_like(moved[0]), moved[1]])
            whole[prefix + "qkv.weight"] = params[prefix + "qkv.weight"] + LORA_SCALE * change
        return whole
