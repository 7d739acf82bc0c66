"""Pre-training of the full model on public data: ReeFL's loss, run centrally with AdamW.

Plain SGD, which the federated rounds use as the paper does, does not train a transformer from
scratch on a small set; AdamW with a warm-up does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reefleet.errors import DataTooSmall
from reefleet.geometry.trained import BACKBONE_PREFIXES
from reefleet.learning.distillation import cross_entropy
from reefleet.learning.network import Network
from reefleet.learning.objectives.reefl import reefl_loss
from reefleet.learning.ree import exit_logits
from reefleet.learning.vit import init_params
from reefleet.model import ModelSpec

Progress = Callable[[int, int, float], None]

DEPTH_ROWS = "ree.depth_embed."
REE_OUTPUTS = ("ree.attn.proj.weight", "ree.mlp.fc2.weight")


@dataclass(frozen=True, slots=True)
class Pretraining:
    """How long and how fast."""

    epochs: int = 60
    batch_size: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps
    noise: float = 0.5  # deviation of the noise added to standardized inputs


def pretrain(
    spec: ModelSpec,
    images: Tensor,
    labels: Tensor,
    seed: int,
    settings: Pretraining,
    progress: Progress,
) -> dict[str, Tensor]:
    """Weights of the full model after `epochs` over images [N, C, S, S] and labels [N].

    Calls `progress(epoch, epochs, loss)` after each epoch. Raises DataTooSmall below one batch.
    """
    count, size = images.shape[0], settings.batch_size
    if count < size:
        msg = f"there are {count} public samples; pre-training needs at least {size}"
        raise DataTooSmall(msg)
    params = {name: p.requires_grad_() for name, p in init_params(spec, seed).items()}
    optimizer = torch.optim.AdamW(
        params.values(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * (count // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate_factor(step / steps, settings.warmup)
    )
    score = torch.zeros(len(spec.exits))
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(settings.epochs):
        order = torch.randperm(count, generator=generator)
        losses = []
        for first in range(0, count - size + 1, size):
            rows = order[first : first + size]
            batch = {"label": labels[rows], "mask": torch.ones(size)}
            noise = torch.randn(images[rows].shape, generator=generator) * settings.noise
            logits = exit_logits(params, spec, spec.depth, images[rows] + noise)
            weight = torch.tensor(math.exp(-5 * (1 - epoch / settings.epochs) ** 2))
            loss, (score, _) = reefl_loss(logits, batch, score, weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        progress(epoch + 1, settings.epochs, sum(losses) / len(losses))
    return {name: p.detach() for name, p in params.items()}


def pretrain_backbone(
    network: Network, images: Tensor, labels: Tensor, seed: int, settings: Pretraining
) -> dict[str, Tensor]:
    """The backbone's weights after training `network` at its last exit alone.

    That is what a published checkpoint is: no exit below it has been prepared, and the head is
    dropped, so that methods with other exits start alike.
    Raises DataTooSmall below one batch.
    """
    count, size, depth = images.shape[0], settings.batch_size, network.spec.depth
    if count < size:
        msg = f"there are {count} public samples; pre-training needs at least {size}"
        raise DataTooSmall(msg)
    first = network.initial(seed)
    params = {name: torch.from_numpy(value).requires_grad_() for name, value in first.items()}
    optimizer = torch.optim.AdamW(
        params.values(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * (count // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate_factor(step / steps, settings.warmup)
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            rows = order[start : start + size]
            noise = torch.randn(images[rows].shape, generator=generator) * settings.noise
            logits = network.logits(params, depth, images[rows] + noise)[:, -1:]
            loss = cross_entropy(logits, labels[rows], torch.ones(size)).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return {n: p.detach() for n, p in params.items() if n.startswith(BACKBONE_PREFIXES)}


def identity_ree(network: Network) -> dict[str, Tensor]:
    """Ree's tensors that are zero where it is to pass a pre-trained backbone's tokens unchanged.

    Its residual branches then start at nothing and grow. The published deviation of 0.02 comes near
    to that at DeiT's width; ours grows as the width shrinks, and would disturb the tokens.
    """
    if network.exits != "ree":
        return {}
    shapes = network.shapes(network.spec.depth)
    return {
        name: torch.zeros(shape)
        for name, shape in shapes.items()
        if name in REE_OUTPUTS or name.startswith(DEPTH_ROWS)
    }


def accuracy(
    params: dict[str, Tensor], spec: ModelSpec, depth: int, images: Tensor, labels: Tensor
) -> list[float]:
    """Accuracy of each exit of the sub-model of `depth` blocks, shallow to deep."""
    with torch.no_grad():
        guesses = exit_logits(params, spec, depth, images).argmax(-1)  # [N, E]
    return [float(value) for value in (guesses == labels[:, None]).float().mean(0)]


def _rate_factor(done: float, warmup: float) -> float:
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
