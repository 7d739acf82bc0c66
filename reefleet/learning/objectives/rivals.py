"""Rivals of QuPeD on the same network: FML, QuPeL, pFedMe and first-order Per-FedAvg.

Each holds a shared model w, which is sent, and all but Per-FedAvg a personal model x beside it. f
is cross-entropy summed over the exits held.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
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
from reefleet.wire.manifest import Phase, Scalar, StateTensor

Result = tuple[dict[str, Tensor], dict[str, Tensor]]
Found = tuple[Tensor, Tensor]  # a loss, and its value


def fml(network: Network, depth: int, epochs: int, settings: Settings) -> Objective:
    """Federated mutual learning (Shen et al. 2020): each model learns from the other's answers.

    Both take (1 - a) f + a T^2 KL from the other, a = `mutual`. It is QuPeD without a quantizer,
    but that there w has ReeFL's loss.
    """

    def step(state: State, batch: Batch, scalars: Scalars) -> Result:
        moved: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        seen = {
            role: network.logits(under(state, role), depth, batch["image"]).detach()
            for role in ("shared", "personal")
        }
        for role, other, rate in (
            ("shared", seen["personal"], "rate"),
            ("personal", seen["shared"], "personal_rate"),
        ):

            def loss_of(params: Mapping[str, Tensor], other: Tensor = other) -> Found:
                logits = network.logits(params, depth, batch["image"])
                label = cross_entropy(logits, batch["label"], batch["mask"]).sum()
                soft = divergence(other, logits, batch["mask"], settings.temperature).sum()
                loss = (1 - settings.mutual) * label + settings.mutual * soft
                return loss, loss.detach()

            params = under(state, role)
            gradients, loss = gradients_of(loss_of, params)
            metrics["loss" if role == "shared" else "personal_loss"] = loss
            velocity = under(state, f"optimizer/{role}")
            params, velocity = descend(
                params, gradients, velocity, scalars[rate], settings.momentum
            )
            moved |= {**renamed(params, role), **renamed(velocity, f"optimizer/{role}")}
        return moved, metrics

    state = (
        *_model(network, depth, "shared", settings),
        *_model(network, depth, "personal", settings),
    )
    metrics = ("loss", "personal_loss")
    return Objective("fml", state, _rates(settings), metrics, _local(epochs), step)


def qupel(network: Network, depth: int, bits: Widths, epochs: int, settings: Settings) -> Objective:
    """QuPeL: QuPeD with the tie (t/2) ||x - w||^2 in place of distillation, on a Ree network.

    The tie is taken exactly, as a proximal step before QuPeD's own; w descends on it alone.
    """

    def logits_of(params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        return network.logits(params, depth, images)

    def step(state: State, batch: Batch, scalars: Scalars) -> Result:
        shared, personal = under(state, "shared"), under(state, "personal")
        pull = scalars["personal_rate"] * settings.tie * (1 - scalars["freeze"])
        tied = {n: x + (pull / (1 + pull)) * (shared[n] - x) for n, x in personal.items()}

        def loss_of(logits: Tensor) -> Tensor:
            return cross_entropy(logits, batch["label"], batch["mask"]).sum()

        own, metrics = personal_step(
            {**state, **renamed(tied, "personal")}, batch, scalars, settings, logits_of, loss_of
        )
        follow = scalars["rate"] * settings.tie
        moved = {n: w - follow * (w - own[f"personal/{n}"]) for n, w in shared.items()}
        return {**own, **renamed(moved, "shared")}, metrics

    shapes = network.shapes(depth)
    shared_state = tuple(
        StateTensor(f"shared/{name}", "shared", shape, "weights", name)
        for name, shape in shapes.items()
    )
    return Objective(
        "qupel",
        (*shared_state, *personal_state(network, depth, bits, settings)),
        (
            Scalar("rate", "cosine", settings.rate, settings.rate_end),
            *personal_scalars(settings),
        ),
        ("personal_loss", "quantized_loss"),
        _local(epochs),
        step,
    )


def pfedme(network: Network, depth: int, epochs: int, settings: Settings) -> Objective:
    """PFedMe (T. Dinh et al., NeurIPS 2020): x solves min f(x) + (t/2) ||x - w||^2 on the batch.

    x takes `inner_steps` gradient steps from where it was, then w -= rate t (w - x).
    """

    def step(state: State, batch: Batch, scalars: Scalars) -> Result:
        shared, personal = under(state, "shared"), under(state, "personal")

        def loss_of(params: Mapping[str, Tensor]) -> Found:
            logits = network.logits(params, depth, batch["image"])
            loss = cross_entropy(logits, batch["label"], batch["mask"]).sum()
            return loss, loss.detach()

        loss = batch["mask"].sum() * 0
        for _ in range(settings.inner_steps):
            gradients, loss = gradients_of(loss_of, personal)
            tied = {n: g + settings.tie * (personal[n] - shared[n]) for n, g in gradients.items()}
            personal, _ = descend(personal, tied, {}, scalars["personal_rate"], 0.0)
        follow = scalars["rate"] * settings.tie
        moved = {name: w - follow * (w - personal[name]) for name, w in shared.items()}
        return {
            **renamed(moved, "shared"),
            **renamed(personal, "personal"),
        }, {"personal_loss": loss}

    still = _without_momentum(network, depth)
    return Objective("pfedme", still, _rates(settings), ("personal_loss",), _local(epochs), step)


def per_fedavg(network: Network, depth: int, epochs: int, settings: Settings) -> Objective:
    """First-order Per-FedAvg (Fallah et al., NeurIPS 2020): w descends where one step would lead.

    Even rows of the batch take the trial step at `personal_rate`, odd rows give the gradient
    there; a half without a real row moves nothing.
    """

    def step(state: State, batch: Batch, scalars: Scalars) -> Result:
        shared = under(state, "shared")
        rows = torch.arange(batch["mask"].shape[0], device=batch["mask"].device)
        odd = (rows % 2 == 1).to(batch["mask"].dtype)

        def gradient(
            params: Mapping[str, Tensor], mask: Tensor
        ) -> tuple[dict[str, Tensor], Tensor]:
            # One row counted in full where none is real keeps the mean finite; it is then dropped.
            real = (mask.sum() > 0).to(mask.dtype)
            safe = mask + (1 - real) * (rows == 0).to(mask.dtype)

            def loss_of(values: Mapping[str, Tensor]) -> Found:
                logits = network.logits(values, depth, batch["image"])
                loss = cross_entropy(logits, batch["label"], safe).sum()
                return loss, loss.detach()

            found, loss = gradients_of(loss_of, params)
            return {name: value * real for name, value in found.items()}, loss

        first, loss = gradient(shared, batch["mask"] * (1 - odd))
        trial, _ = descend(shared, first, {}, scalars["personal_rate"], 0.0)
        second, _ = gradient(trial, batch["mask"] * odd)
        moved, _ = descend(shared, second, {}, scalars["rate"], 0.0)
        return renamed(moved, "shared"), {"loss": loss}

    still = tuple(t for t in _without_momentum(network, depth) if t.role == "shared")
    return Objective("per-fedavg", still, _rates(settings), ("loss",), _local(epochs), step)


def _model(network: Network, depth: int, role: str, settings: Settings) -> tuple[StateTensor, ...]:
    shapes = network.shapes(depth)
    held = [StateTensor(f"{role}/{n}", role, s, "weights", n) for n, s in shapes.items()]
    if settings.momentum:
        held += [
            StateTensor(f"optimizer/{role}/{n}", "optimizer", s, "zeros") for n, s in shapes.items()
        ]
    return tuple(held)


def _without_momentum(network: Network, depth: int) -> tuple[StateTensor, ...]:
    plain = Settings(momentum=0.0)
    return (
        *_model(network, depth, "shared", plain),
        *_model(network, depth, "personal", plain),
    )


def _rates(settings: Settings) -> tuple[Scalar, ...]:
    return (
        Scalar("rate", "cosine", settings.rate, settings.rate_end),
        Scalar("personal_rate", "cosine", settings.personal_rate, settings.personal_rate_end),
    )


def _local(epochs: int) -> tuple[Phase, ...]:
    return (Phase("local", epochs),)
