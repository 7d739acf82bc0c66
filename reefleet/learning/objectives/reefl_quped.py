"""Two models side by side: ReeFL on the shared sub-model, QuPeD on the personal one.

QuPeD Algorithm 2 with ReeFL's loss as the shared model's own: the personal model learns from the
labels (1 - lambda_p) and from the shared model's detached exits (lambda_p), quantized and not; the
shared model takes its own step, with the same divergence as a further term, and is what is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from reefleet.learning.distillation import cross_entropy, divergence
from reefleet.learning.network import Network
from reefleet.learning.objectives.books import Widths
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
from reefleet.learning.objectives.quped import personal_scalars, personal_state, personal_step
from reefleet.learning.objectives.reefl import (
    SCORE,
    reefl_loss,
    shared_scalars,
    shared_state,
)
from reefleet.learning.vit import Params
from reefleet.model import ModelSpec
from reefleet.wire.manifest import Phase


def reefl_quped(
    spec: ModelSpec,
    depth: int,
    bits: Widths,
    epochs: int,
    settings: Settings,
    network: Network | None = None,
) -> Objective:
    """The two-model step for boards that bear both; Ree unless another network is given."""
    net = network or Network(spec)

    def logits_of(params: Params, images: Tensor) -> Tensor:
        return net.logits(params, depth, images)

    def step(
        state: State, batch: Batch, scalars: Scalars
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        shared, personal = under(state, "shared"), under(state, "personal")
        student = logits_of(personal, batch["image"]).detach()

        def shared_loss(
            params: Mapping[str, Tensor],
        ) -> tuple[Tensor, tuple[Tensor, Tensor, dict[str, Tensor]]]:
            logits = logits_of(params, batch["image"])
            loss, (score, metrics) = reefl_loss(
                logits, batch, state[SCORE], scalars["distillation"]
            )
            mutual = divergence(logits, student, batch["mask"], settings.temperature).mean()
            return loss + settings.mutual * mutual, (logits.detach(), score, metrics)

        gradients, (teacher, score, metrics) = gradients_of(shared_loss, shared)
        velocity = under(state, "optimizer/shared")
        moved, velocity = descend(shared, gradients, velocity, scalars["rate"], settings.momentum)

        def personal_loss(logits: Tensor) -> Tensor:
            label = cross_entropy(logits, batch["label"], batch["mask"]).sum()
            soft = divergence(teacher, logits, batch["mask"], settings.temperature).sum()
            return (1 - settings.mutual) * label + settings.mutual * soft

        own, more = personal_step(state, batch, scalars, settings, logits_of, personal_loss)
        return {
            **renamed(moved, "shared"),
            **renamed(velocity, "optimizer/shared"),
            SCORE: score,
            **own,
        }, {**metrics, **more}

    shared = shared_state(net.shapes(depth), len(spec.exits_within(depth)), settings)
    return Objective(
        name="reefl-quped",
        state=(*shared, *personal_state(net, depth, bits, settings)),
        scalars=(*shared_scalars(settings), *personal_scalars(settings)),
        metrics=("loss", "exit_loss", "personal_loss", "quantized_loss"),
        phases=(Phase("local", epochs),),
        step=step,
    )
