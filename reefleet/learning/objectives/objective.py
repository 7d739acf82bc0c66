"""What an objective is: a pure step over named state, and the contract a device needs to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from reefleet.learning import many
from reefleet.model import Shape
from reefleet.wire.manifest import Phase, Scalar, StateTensor

State = Mapping[str, Tensor]
Batch = Mapping[str, Tensor]
Scalars = Mapping[str, Tensor]
Shapes = Mapping[str, Shape]
Extra = TypeVar("Extra")
Step = Callable[[State, Batch, Scalars], tuple[dict[str, Tensor], dict[str, Tensor]]]

GRADIENT_CLIP = 1.0  # elementwise, as ReeFL's released code does


@dataclass(frozen=True, slots=True)
class Settings:
    """Hyper-parameters. Rates follow a cosine from `rate` to `rate_end` over the whole run."""

    rate: float = 0.012
    rate_end: float = 0.003
    momentum: float = 0.0
    personal_rate: float = 0.006  # its two losses add up
    personal_rate_end: float = 0.004
    finetune_rate: float = 0.005
    distillation: float = 1.0  # peak weight of the KL from the best exit
    mutual: float = 0.5  # QuPeD's lambda_p: share of distillation from the shared model
    temperature: float = 2.0
    proximal: float = 0.001  # QuPeD's lambda at the end of its ramp; above a weight's gradient it
    # pins the weight to its first center
    center_rate: float = 0.1
    center_pull: float = 0.1
    steepness: float = 20.0
    relax_epochs: int = 3
    finetune_epochs: int = 2
    weight_decay: float = 0.0
    ramp_share: float = 0.0  # of the run, after which the KL weight is full; 0: all of it
    dynamic: float = 0.1  # FedDyn's alpha
    tie: float = 1.0  # of QuPeL's and pFedMe's quadratic term
    inner_steps: int = 1  # of pFedMe on one batch
    lora_rank: int = 8
    quantizer: Literal["quped", "lsq", "parq"] = "quped"
    codebook: Literal["tensor", "channel"] = "tensor"  # channel: a scale for each output too
    centers: Literal["grid", "free"] = "grid"  # grid: int8 steps, which every runtime holds exactly
    center_rule: Literal["l2", "l1", "published"] = "l2"  # which prox; published: the wrong sign
    finetune: Literal["weights", "rest"] = "weights"  # what trains once the centers stay
    start: Literal["shared", "kept"] = "shared"  # of the last stage; kept: the rounds' own model

    @property
    def settle(self) -> Literal["snap", "nearest"]:
        """The host policy that makes the final model; see `reefleet.wire.codebook.settle`."""
        return "snap" if self.centers == "grid" else "nearest"


@dataclass(frozen=True, slots=True)
class Objective:
    """A step, the state it carries, the scalars it is fed, the metrics it returns."""

    name: str
    state: tuple[StateTensor, ...]
    scalars: tuple[Scalar, ...]
    metrics: tuple[str, ...]
    phases: tuple[Phase, ...]
    step: Step


def parameters(shapes: Shapes, role: str) -> tuple[StateTensor, ...]:
    """State entries `role`/NAME for every tensor of the sub-model, started from the weights."""
    return tuple(
        StateTensor(f"{role}/{name}", role, shape, "weights", name)
        for name, shape in shapes.items()
    )


def velocities(shapes: Shapes, role: str) -> tuple[StateTensor, ...]:
    """Momentum for each tensor of `role`, zero at the start of every task."""
    return tuple(
        StateTensor(f"optimizer/{role}/{name}", "optimizer", shape, "zeros")
        for name, shape in shapes.items()
    )


def under(state: State, prefix: str) -> dict[str, Tensor]:
    """Entries below `prefix`/, with the prefix taken off."""
    start = prefix + "/"
    return {name[len(start) :]: value for name, value in state.items() if name.startswith(start)}


def renamed(values: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same entries below `prefix`/."""
    return {f"{prefix}/{name}": value for name, value in values.items()}


def gradients_of(
    loss_of: Callable[[Mapping[str, Tensor]], tuple[Tensor, Extra]], params: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Extra]:
    """Gradient of `loss_of` at `params`, and what it returns beside the loss.

    What `torch.func.grad` gives, in three quarters of its time; a trace sees the same operators.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        loss, extra = loss_of(leaves)
    found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, found, strict=True)), extra


def descend(
    params: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    velocity: Mapping[str, Tensor],
    rate: Tensor,
    momentum: float,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """SGD with momentum on clipped gradients; without momentum there is no velocity to keep."""
    moves = many.clamped([gradients[name] for name in params], GRADIENT_CLIP)
    if velocity:
        kept = many.scaled([velocity[name] for name in params], momentum)
        moves = many.added(kept, moves)
    moved = many.subtracted(list(params.values()), many.scaled(moves, rate))
    found = dict(zip(params, moved, strict=True))
    return found, dict(zip(params, moves, strict=True)) if velocity else {}
