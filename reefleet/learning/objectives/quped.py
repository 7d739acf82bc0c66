"""QuPeD's personal objective on one model: relaxed weights drawn to learned centers.

QuPeD (NeurIPS 2021) Algorithm 1: g = grad f(x) + grad f(Qs_c(x)), a proximal step for x and one
for c. One pass gives both gradients at the same x (the paper takes the centers' gradient at the new
x), which halves the cost of a step. Phase `finetune` starts when the host has put the centers on
the int8 grid and the weights on their centers; both stay there and the rest trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from reefleet.learning.distillation import cross_entropy
from reefleet.learning.objectives.objective import (
    GRADIENT_CLIP,
    Batch,
    Objective,
    Scalars,
    Settings,
    State,
    descend,
    parameters,
    renamed,
    under,
    velocities,
)
from reefleet.learning.quantizer import proximal_centers, proximal_weights, soft_quantize
from reefleet.learning.ree import exit_logits
from reefleet.learning.vit import Params
from reefleet.model import ModelSpec, quantized_tensors
from reefleet.wire.manifest import Phase, Scalar, StateTensor

Loss = Callable[[Tensor], Tensor]
Network = Callable[[Params, Tensor], Tensor]


def quped(spec: ModelSpec, depth: int, bits: int, settings: Settings) -> Objective:
    """The personal model alone: relax towards the centers, snap, fine-tune the rest."""

    def logits_of(params: Params, images: Tensor) -> Tensor:
        return exit_logits(params, spec, depth, images)

    def step(
        state: State, batch: Batch, scalars: Scalars
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        def loss_of(logits: Tensor) -> Tensor:
            return cross_entropy(logits, batch["label"], batch["mask"]).sum()

        return personal_step(state, batch, scalars, settings, logits_of, loss_of)

    return Objective(
        name="quped",
        state=personal_state(spec, depth, bits, settings),
        scalars=personal_scalars(settings),
        metrics=("personal_loss", "quantized_loss"),
        phases=(
            Phase("relax", settings.relax_epochs),
            Phase("finetune", settings.finetune_epochs, enter="snap"),
        ),
        step=step,
    )


def personal_step(
    state: State,
    batch: Batch,
    scalars: Scalars,
    settings: Settings,
    logits_of: Network,
    loss_of: Loss,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One proximal step of weights and centers under `loss_of(logits_of(params, images))`."""
    personal, centers = under(state, "personal"), under(state, "centers")
    free = 1 - scalars["freeze"]

    def total(
        params: Mapping[str, Tensor], codebooks: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        soft = {**params}
        for name, book in codebooks.items():
            flat = soft_quantize(params[name].reshape(-1), book, scalars["steepness"])
            soft[name] = flat.reshape(params[name].shape)
        plain = loss_of(logits_of(params, batch["image"]))
        quantized = loss_of(logits_of(soft, batch["image"]))
        metrics = {"personal_loss": plain.detach(), "quantized_loss": quantized.detach()}
        return plain + free * quantized, metrics

    gradients, (_, metrics) = torch.func.grad_and_value(total, argnums=(0, 1), has_aux=True)(
        personal, centers
    )
    velocity = under(state, "optimizer/personal")
    rate = scalars["personal_rate"]
    moved, velocity = descend(personal, gradients[0], velocity, rate, settings.momentum)
    books = {}
    for name, book in centers.items():
        drawn, index = proximal_weights(moved[name].reshape(-1), book, rate * scalars["proximal"])
        moved[name] = _unless(scalars["freeze"], personal[name], drawn.reshape(moved[name].shape))
        shifted = book - scalars["center_rate"] * _normalised(gradients[1][name], personal[name])
        pulled = proximal_centers(shifted, drawn, index, scalars["center_pull"])
        books[name] = _unless(scalars["freeze"], book, pulled)
    return {
        **renamed(moved, "personal"),
        **renamed(books, "centers"),
        **renamed(velocity, "optimizer/personal"),
    }, metrics


def personal_state(
    spec: ModelSpec, depth: int, bits: int, settings: Settings
) -> tuple[StateTensor, ...]:
    """Personal weights, their codebooks (Lloyd's algorithm on the first weights), velocities."""
    books = tuple(
        StateTensor(f"centers/{name}", "centers", (2**bits,), "lloyd", name)
        for name in quantized_tensors(spec, depth)
    )
    moving = velocities(spec, depth, "personal") if settings.momentum else ()
    return (*parameters(spec, depth, "personal"), *books, *moving)


def personal_scalars(settings: Settings) -> tuple[Scalar, ...]:
    """Schedules of the personal step; `freeze` is 1 once the weights sit on the grid."""
    return (
        Scalar(
            "personal_rate",
            "cosine",
            settings.personal_rate,
            settings.personal_rate_end,
            phases={"finetune": settings.finetune_rate},
        ),
        Scalar("proximal", "linear", 0.0, settings.proximal, phases={"relax": settings.proximal}),
        Scalar("center_rate", "constant", settings.center_rate),
        Scalar("center_pull", "constant", settings.center_pull),
        Scalar("steepness", "constant", settings.steepness),
        Scalar("freeze", "constant", 0.0, phases={"finetune": 1.0}),
    )


def _normalised(gradient: Tensor, weights: Tensor) -> Tensor:
    # A center's gradient sums over its members; LSQ's 1/sqrt(N) keeps its step size-free.
    scaled: Tensor = gradient * (weights.numel() ** -0.5)
    return scaled.clamp(-GRADIENT_CLIP, GRADIENT_CLIP)


def _unless(flag: Tensor, kept: Tensor, new: Tensor) -> Tensor:
    return torch.where(flag > 0.5, kept, new)
