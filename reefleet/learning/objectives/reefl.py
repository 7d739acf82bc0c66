"""ReeFL's client objective: cross-entropy at every exit, distillation from the best one.

ReeFL (ICML 2024) section 3.3: sum_i CE_i + w(r) sum_(i != t) KL(p_t || p_i), t the exit with the
least running loss. Departures from the released code: the KL sum is divided by the number of
students, its ramp is relative to the run's length, the teacher score is carried across rounds.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reefleet.learning.distillation import (
    best_exit,
    cross_entropy,
    from_best_exit,
    running_score,
)
from reefleet.learning.objectives.objective import (
    Batch,
    Objective,
    Scalars,
    Settings,
    Shapes,
    State,
    descend,
    parameters,
    renamed,
    under,
    velocities,
)
from reefleet.learning.ree import exit_logits
from reefleet.model import ModelSpec, tensor_shapes
from reefleet.wire.manifest import Phase, Scalar, StateTensor

SCORE = "statistic/teacher_score"


def reefl(spec: ModelSpec, depth: int, epochs: int, settings: Settings) -> Objective:
    """The shared sub-model alone: what a board trains that bears one model."""

    def step(
        state: State, batch: Batch, scalars: Scalars
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        shared = under(state, "shared")
        gradients, (score, metrics) = shared_gradients(
            shared, spec, depth, batch, state[SCORE], scalars["distillation"]
        )
        velocity = under(state, "optimizer/shared")
        shared, velocity = descend(shared, gradients, velocity, scalars["rate"], settings.momentum)
        return {
            **renamed(shared, "shared"),
            **renamed(velocity, "optimizer/shared"),
            SCORE: score,
        }, metrics

    return Objective(
        name="reefl",
        state=shared_state(tensor_shapes(spec, depth), len(spec.exits_within(depth)), settings),
        scalars=shared_scalars(settings),
        metrics=("loss", "exit_loss"),
        phases=(Phase("local", epochs),),
        step=step,
    )


def shared_gradients(
    shared: Mapping[str, Tensor],
    spec: ModelSpec,
    depth: int,
    batch: Batch,
    score: Tensor,
    weight: Tensor,
) -> tuple[dict[str, Tensor], tuple[Tensor, dict[str, Tensor]]]:
    """Gradients of ReeFL's loss, the new teacher score [E] and the metrics."""

    def loss_of(params: Mapping[str, Tensor]) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        logits = exit_logits(params, spec, depth, batch["image"])
        return reefl_loss(logits, batch, score, weight)

    gradients, (_, extra) = torch.func.grad_and_value(loss_of, has_aux=True)(dict(shared))
    return gradients, extra


def reefl_loss(
    logits: Tensor, batch: Batch, score: Tensor, weight: Tensor
) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
    """Loss of logits [B, E, classes], with the new score [E] and the metrics beside it."""
    exit_loss = cross_entropy(logits, batch["label"], batch["mask"])
    score = running_score(score, exit_loss)
    distilled = from_best_exit(logits, best_exit(score), batch["mask"])
    loss = exit_loss.sum() + weight * distilled
    return loss, (score, {"loss": loss.detach(), "exit_loss": exit_loss.detach()})


def shared_state(shapes: Shapes, exits: int, settings: Settings) -> tuple[StateTensor, ...]:
    """State of the shared sub-model: weights, velocities, teacher score."""
    moving = velocities(shapes, "shared") if settings.momentum else ()
    score = StateTensor(SCORE, "statistic", (exits,), "file")
    return (*parameters(shapes, "shared"), *moving, score)


def shared_scalars(settings: Settings) -> tuple[Scalar, ...]:
    """Learning rate and KL weight of the shared sub-model."""
    return (
        Scalar("rate", "cosine", settings.rate, settings.rate_end),
        Scalar("distillation", "ramp", 0.0, settings.distillation),
    )
