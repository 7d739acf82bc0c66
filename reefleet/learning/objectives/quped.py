"""QuPeD's personal objective on one model: relaxed weights drawn to learned centers.

QuPeD (NeurIPS 2021) Algorithm 1: g = grad f(x) + grad f(Qs_c(x)), a proximal step for x and one
for c. One pass gives both gradients at the same x (the paper takes the centers' gradient at the new
x), which halves the cost of a step. Phase `finetune` starts when the host has put the centers on
their grid, where they stay. The weights then train on through Q itself, straight through; the
published code freezes them. Without codebooks it is the same schedule in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from reefleet.learning.distillation import cross_entropy
from reefleet.learning.network import Network
from reefleet.learning.objectives.books import (
    Widths,
    book_scalars,
    book_state,
    books_of,
    coded,
    moved_books,
)
from reefleet.learning.objectives.objective import (
    Batch,
    Objective,
    Scalars,
    Settings,
    State,
    descend,
    gradients_of,
    parameters,
    renamed,
    under,
    velocities,
)
from reefleet.learning.vit import Params
from reefleet.model import ModelSpec
from reefleet.wire.manifest import Phase, Scalar, StateTensor

PERSONAL = "personal"
Loss = Callable[[Tensor], Tensor]
Logits = Callable[[Params, Tensor], Tensor]


def quped(
    spec: ModelSpec, depth: int, bits: Widths, settings: Settings, network: Network | None = None
) -> Objective:
    """The personal model alone: relax towards the centers, settle them, fine-tune.

    It is Ree over the backbone unless another network is given.
    """
    net = network or Network(spec)

    def logits_of(params: Params, images: Tensor) -> Tensor:
        return net.logits(params, depth, images)

    def step(
        state: State, batch: Batch, scalars: Scalars
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        def loss_of(logits: Tensor) -> Tensor:
            return cross_entropy(logits, batch["label"], batch["mask"]).sum()

        return personal_step(state, batch, scalars, settings, logits_of, loss_of)

    return Objective(
        name="quped",
        state=personal_state(net, depth, bits, settings),
        scalars=personal_scalars(settings),
        metrics=("quantized_loss", "personal_loss"),
        phases=(
            Phase("relax", settings.relax_epochs),
            Phase("finetune", settings.finetune_epochs, enter=_policy(settings)),
        ),
        step=step,
    )


def personal_step(
    state: State,
    batch: Batch,
    scalars: Scalars,
    settings: Settings,
    logits_of: Logits,
    loss_of: Loss,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One step of weights and codebooks under `loss_of(logits_of(params, images))`."""
    personal, books = under(state, PERSONAL), books_of(state)
    free, relaxes = 1 - scalars["freeze"], settings.quantizer == "quped"

    def total(leaves: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        params = under(leaves, PERSONAL)
        seen = coded(params, {name: leaves[name] for name in books}, scalars, settings)
        plain = quantized = loss_of(logits_of(seen, batch["image"]))
        if relaxes and books:
            plain = loss_of(logits_of(params, batch["image"]))
        metrics = {"personal_loss": plain.detach(), "quantized_loss": quantized.detach()}
        return (free * plain + quantized if relaxes else quantized), metrics

    found, metrics = gradients_of(total, {**renamed(personal, PERSONAL), **books})
    velocity = under(state, "optimizer/personal")
    rate = scalars["personal_rate"]
    gradients = under(found, PERSONAL)
    moved, velocity = descend(personal, gradients, velocity, rate, settings.momentum)
    drawn, books = moved_books(personal, moved, books, found, scalars, settings)
    return {
        **renamed({**moved, **drawn}, PERSONAL),
        **books,
        **renamed(velocity, "optimizer/personal"),
    }, metrics


def personal_state(
    network: Network, depth: int, bits: Widths, settings: Settings
) -> tuple[StateTensor, ...]:
    """Personal weights, their codebooks, velocities."""
    shapes = network.shapes(depth)
    moving = velocities(shapes, PERSONAL) if settings.momentum else ()
    books = book_state(network.spec, depth, bits, settings)
    return (*parameters(shapes, PERSONAL), *books, *moving)


def personal_scalars(settings: Settings) -> tuple[Scalar, ...]:
    """Schedules of the personal step; `freeze` is 1 once the centers sit on their grid."""
    return (
        Scalar(
            "personal_rate",
            "cosine",
            settings.personal_rate,
            settings.personal_rate_end,
            phases={"finetune": settings.finetune_rate},
        ),
        *book_scalars(settings),
        Scalar("freeze", "constant", 0.0, phases={"finetune": 1.0}),
    )


def _policy(settings: Settings) -> str:
    if settings.finetune == "rest":
        return settings.settle
    return "grid" if settings.centers == "grid" else ""
