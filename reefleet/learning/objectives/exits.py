"""One federated objective for ReeFL's variants and its baselines: exits, distillation, trained set.

Rules: `best-exit` (ours), `paper` (ReeFL's released code: KL summed, teacher score new in every
round), `all-pairs` (DepthFL), `sum` (cross-entropy alone: ExclusiveFL, FedAvg), `last` (the deepest
exit alone: InclusiveFL), `deepest` (ScaleFL: KL from the deepest exit at a constant weight). With
`dynamic`, FedDyn's correction h is kept as the device's state: the gradient is reduced by h, and h
falls by alpha times each move, which after a round is the published h - alpha (theta -
theta_global).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from reefleet.learning.distillation import (
    among_all_exits,
    best_exit,
    cross_entropy,
    from_best_exit_as_published,
    from_deepest_exit,
    running_score,
)
from reefleet.learning.network import Network
from reefleet.learning.objectives.objective import (
    Batch,
    Objective,
    Scalars,
    Settings,
    State,
    descend,
    gradients_of,
    renamed,
    under,
)
from reefleet.learning.objectives.reefl import SCORE, reefl_loss
from reefleet.wire.manifest import Phase, Scalar, StateTensor

Rule = Literal["best-exit", "paper", "all-pairs", "sum", "last", "deepest"]
LossAndMore = tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]

FRESH_SCORE = "optimizer/teacher_score"  # zero at the start of every task
CORRECTION = "statistic/correction"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What tells one method from another on the device."""

    name: str
    network: Network
    rule: Rule = "best-exit"
    dynamic: bool = False


def exits_objective(recipe: Recipe, depth: int, epochs: int, settings: Settings) -> Objective:
    """The federated step of `recipe` for a device of this depth."""
    score_name = FRESH_SCORE if recipe.rule == "paper" else SCORE

    def step(
        state: State, batch: Batch, scalars: Scalars
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        shared, frozen = under(state, "shared"), under(state, "frozen")

        def loss_of(params: Mapping[str, Tensor]) -> LossAndMore:
            logits = recipe.network.logits({**frozen, **params}, depth, batch["image"])
            return exits_loss(
                recipe.rule, logits, batch, state[score_name], scalars["distillation"]
            )

        gradients, (score, metrics) = gradients_of(loss_of, shared)
        correction = under(state, CORRECTION)
        gradients = _corrected(gradients, shared, correction, settings.weight_decay)
        velocity = under(state, "optimizer/shared")
        moved, velocity = descend(shared, gradients, velocity, scalars["rate"], settings.momentum)
        corrected = {
            name: h - settings.dynamic * (moved[name] - shared[name])
            for name, h in correction.items()
        }
        return {
            **renamed(moved, "shared"),
            **renamed(frozen, "frozen"),
            **renamed(velocity, "optimizer/shared"),
            **renamed(corrected, CORRECTION),
            score_name: score,
        }, metrics

    ramp = "ramp-until" if settings.ramp_share else "ramp"
    return Objective(
        name=recipe.name,
        state=_state(recipe, depth, settings, score_name),
        scalars=(
            Scalar("rate", "cosine", settings.rate, settings.rate_end),
            Scalar("distillation", ramp, settings.ramp_share, settings.distillation),
        ),
        metrics=("loss", "exit_loss"),
        phases=(Phase("local", epochs),),
        step=step,
    )


def exits_loss(
    rule: Rule, logits: Tensor, batch: Batch, score: Tensor, weight: Tensor
) -> LossAndMore:
    """Loss of logits [B, E, classes] by `rule`, with the new score [E] and metrics beside it."""
    if rule == "best-exit":
        return reefl_loss(logits, batch, score, weight)
    exit_loss = cross_entropy(logits, batch["label"], batch["mask"])
    score = running_score(score, exit_loss)
    distill: Callable[[], Tensor] | None = {
        "paper": lambda: from_best_exit_as_published(logits, best_exit(score), batch["mask"]),
        "all-pairs": lambda: among_all_exits(logits, batch["mask"]),
    }.get(rule)
    loss = exit_loss[-1] if rule == "last" else exit_loss.sum()
    if rule == "deepest":
        loss = loss + from_deepest_exit(logits, batch["mask"])
    # The weight is an input of the graph either way, so it must be used.
    loss = loss + weight * (distill() if distill else 0.0)
    return loss, (score, {"loss": loss.detach(), "exit_loss": exit_loss.detach()})


def _corrected(
    gradients: Mapping[str, Tensor],
    shared: Mapping[str, Tensor],
    correction: Mapping[str, Tensor],
    decay: float,
) -> dict[str, Tensor]:
    changed = dict(gradients)
    if decay:
        changed = {name: value + decay * shared[name] for name, value in changed.items()}
    return {
        name: value - correction[name] if name in correction else value
        for name, value in changed.items()
    }


def _state(
    recipe: Recipe, depth: int, settings: Settings, score_name: str
) -> tuple[StateTensor, ...]:
    shapes = recipe.network.shapes(depth)
    trained = recipe.network.trained_names(depth)
    held = [
        StateTensor(f"{role}/{name}", role, shape, "weights", name)
        for name, shape in shapes.items()
        for role in ("shared" if name in trained else "frozen",)
    ]
    if settings.momentum:
        held += [
            StateTensor(f"optimizer/shared/{name}", "optimizer", shapes[name], "zeros")
            for name in trained
        ]
    if recipe.dynamic:
        held += [
            StateTensor(f"{CORRECTION}/{name}", "statistic", shapes[name], "zeros")
            for name in trained
        ]
    exits = (len(recipe.network.spec.exits_within(depth)),)
    fresh = recipe.rule == "paper"
    role, init = ("optimizer", "zeros") if fresh else ("statistic", "file")
    return (*held, StateTensor(score_name, role, exits, init))
