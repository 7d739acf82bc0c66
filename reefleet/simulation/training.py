"""A client's local training, step for step as the edge client runs the same program's graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reefleet.datasets.order import shuffled
from reefleet.errors import NonFiniteUpdate
from reefleet.learning.objectives import Objective
from reefleet.wire import codebook
from reefleet.wire.manifest import StateTensor

KEPT_ROLES = frozenset({"personal", "centers", "statistic"})
PERSONAL, CENTERS, SCALES, SHARED = "personal/", "centers/", "scales/", "shared/"
FITTED = {"rows": 1, "lloyd": 2}  # in this order, after all else

Arrays = Mapping[str, NDArray[np.float32]]
State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What to learn from and how; `start` and `end` are the share of the run that this covers."""

    images: Tensor
    labels: Tensor
    batch_size: int
    seed: int
    start: float = 0.0
    end: float = 1.0


def train(objective: Objective, state: State, lesson: Lesson) -> tuple[State, float]:
    """Run every phase; gives the final state and the mean loss over the last epoch.

    Raises NonFiniteUpdate where the loss is not finite.
    """
    rng = np.random.default_rng(lesson.seed)
    count, size = len(lesson.labels), lesson.batch_size
    per_epoch = math.ceil(count / size)
    total = max(1, per_epoch * sum(phase.epochs for phase in objective.phases))
    steps, loss = 0, math.nan
    for phase in objective.phases:
        if phase.enter:
            snap(state, phase.enter)
        for _ in range(phase.epochs):
            losses = 0.0
            for rows in shuffled(count, size, rng):
                progress = lesson.start + (lesson.end - lesson.start) * steps / total
                scalars = {
                    s.name: torch.tensor(s.at(progress, phase.name)) for s in objective.scalars
                }
                batch = {
                    "image": lesson.images[rows],
                    "label": lesson.labels[rows],
                    "mask": torch.ones(len(rows)),
                }
                state, metrics = objective.step(state, batch, scalars)
                losses += _finite(float(metrics[objective.metrics[0]]), steps) * len(rows)
                steps += 1
            loss = losses / count
    return {name: value.detach() for name, value in state.items()}, loss


def first_state(objective: Objective, weights: Arrays, stored: Mapping[str, Tensor]) -> State:
    """First values of the objective's state from the weights and what an earlier round left."""
    state: State = {}
    for item in sorted(objective.state, key=lambda item: FITTED.get(item.init, 0)):
        kept = stored.get(item.name) if item.role in KEPT_ROLES else None
        if kept is not None and tuple(kept.shape) == item.shape:
            state[item.name] = kept
        elif item.init == "weights":
            state[item.name] = torch.from_numpy(weights[item.source].copy())
        elif item.init in FITTED:
            state[item.name] = _fitted(item, state)
        else:
            state[item.name] = torch.zeros(item.shape)
    return state


def kept(objective: Objective, state: Mapping[str, Tensor]) -> State:
    """The part of the state that stays with the client between rounds."""
    return {item.name: state[item.name] for item in objective.state if item.role in KEPT_ROLES}


def snap(state: MutableMapping[str, Tensor], policy: str = "snap") -> None:
    """Apply a host policy to the codebooks and their weights; see `wire.codebook.settle`."""
    for name in [n.removeprefix(CENTERS) for n in state if n.startswith(CENTERS)]:
        rows = state.get(SCALES + name)
        weights, centers = codebook.settle(
            policy,
            state[PERSONAL + name].numpy(),
            state[CENTERS + name].numpy(),
            None if rows is None else rows.numpy(),
        )
        state[CENTERS + name], state[PERSONAL + name] = map(torch.from_numpy, (centers, weights))


def _fitted(item: StateTensor, state: State) -> Tensor:
    weights = state[PERSONAL + item.source].numpy()
    if item.init == "rows":
        return torch.from_numpy(codebook.row_scales(weights))
    if (rows := state.get(SCALES + item.source)) is not None:
        weights = weights / rows.numpy()[:, None]
    return torch.from_numpy(codebook.lloyd(weights.ravel(), item.shape[0].bit_length() - 1))


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        msg = f"training diverged: the loss is {loss} at step {step}"
        raise NonFiniteUpdate(msg)
    return loss
