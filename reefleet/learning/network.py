"""A network as an objective sees it: which tensors a depth holds, which are trained, its logits.

The trained sets are those of `reefleet.geometry.trained`. What is not trained is no argument of the
gradient, so autograd computes neither its gradient nor, where nothing below needs one, the pass
through it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from reefleet.geometry.trained import is_trained
from reefleet.learning.heads import head_logits
from reefleet.learning.ree import Modulation, exit_logits
from reefleet.learning.vit import Params
from reefleet.model import (
    ADAPTERS,
    ModelSpec,
    Shape,
    forward_macs,
    head_tensor_shapes,
    plain_forward_macs,
    tensor_shapes,
)
from reefleet.plan import TrainedSet
from reefleet.wire.checkpoint import initial


@dataclass(frozen=True, slots=True)
class Network:
    """Ree over the backbone (`exits` = "ree") or plain heads ("heads"), with its trained set.

    `lora_rank` is the width of adapters too, where the spec does not hold them already.
    """

    spec: ModelSpec
    exits: Literal["ree", "heads"] = "ree"
    modulation: Modulation = "on"
    trained: TrainedSet = "full"
    lora_rank: int = 8

    @property
    def held(self) -> ModelSpec:
        """The geometry with the tensors that the trained set adds."""
        if self.trained not in ADAPTERS or self.spec.adapter == self.trained:
            return self.spec
        return replace(self.spec, adapter=self.trained, rank=self.lora_rank)

    def shapes(self, depth: int) -> dict[str, Shape]:
        """Every tensor of the sub-model, trained or not."""
        shapes_of = tensor_shapes if self.exits == "ree" else head_tensor_shapes
        return shapes_of(self.held, depth)

    def trained_names(self, depth: int) -> tuple[str, ...]:
        """Tensors that training moves and a device sends."""
        return tuple(name for name in self.shapes(depth) if is_trained(name, self.trained))

    def logits(self, params: Params, depth: int, images: Tensor) -> Tensor:
        """Logits [B, E, classes] of every exit within `depth`."""
        if self.exits == "ree":
            return exit_logits(params, self.spec, depth, images, self.modulation)
        return head_logits(params, self.spec, depth, images)

    def macs(self, depth: int) -> int:
        """Multiply-accumulates of one forward pass through `depth` blocks and all their exits."""
        counted = forward_macs if self.exits == "ree" else plain_forward_macs
        return counted(self.held, depth)

    def initial(self, seed: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """First values at full depth: the backbone is the same whatever the exits."""
        common = initial(self.held, seed)
        rng = np.random.default_rng([seed, 1])
        values = {}
        for name, shape in self.shapes(self.spec.depth).items():
            if name in common:
                values[name] = common[name]
            elif len(shape) == 1:
                values[name] = np.full(shape, float(name.endswith("norm.weight")), np.float32)
            else:
                spread = 0.4 / math.sqrt(shape[-1])
                values[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
        return values
