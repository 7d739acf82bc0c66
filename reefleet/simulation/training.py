"""A client's local training, step for step as the edge client runs the same program's graph."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reefleet.errors import NonFiniteUpdate
from reefleet.learning.objectives import Objective
from reefleet.wire import codebook
from reefleet.wire.manifest import StateTensor

KEPT_ROLES = frozenset({"personal", "centers", "statistic"})
PERSONAL, CENTERS, SHARED = "personal/", "centers/", "shared/"

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


def seed_of(*facts: object) -> int:
    """A seed that depends on these facts alone, so that repeated work is the same bit for bit."""
    named = " ".join(str(fact) for fact in facts)
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big")


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
        if phase.enter == "snap":
            snap(state)
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


def shuffled(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the indices 0..count-1 in a fresh order, in runs of `size`; the last may be short."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def first_state(
    objective: Objective, weights: Arrays, stored: Mapping[str, Tensor], bits: int
) -> State:
    """First values of the objective's state from the weights and what an earlier round left."""
    state: State = {}
    for item in sorted(objective.state, key=lambda item: item.init == "lloyd"):
        kept = stored.get(item.name) if item.role in KEPT_ROLES else None
        if kept is not None and tuple(kept.shape) == item.shape:
            state[item.name] = kept
        elif item.init == "weights":
            state[item.name] = torch.from_numpy(weights[item.source].copy())
        elif item.init == "lloyd":
            state[item.name] = _fitted(item, state, weights, bits)
        else:
            state[item.name] = torch.zeros(item.shape)
    return state


def kept(objective: Objective, state: Mapping[str, Tensor]) -> State:
    """The part of the state that stays with the client between rounds."""
    return {item.name: state[item.name] for item in objective.state if item.role in KEPT_ROLES}


def snap(state: MutableMapping[str, Tensor]) -> None:
    """Put each codebook on the int8 grid and each quantized weight on its nearest center."""
    for name in [n.removeprefix(CENTERS) for n in state if n.startswith(CENTERS)]:
        values = state[PERSONAL + name].numpy()
        centers = codebook.snap(np.sort(state[CENTERS + name].numpy())).centers
        state[CENTERS + name] = torch.from_numpy(centers)
        state[PERSONAL + name] = torch.from_numpy(centers[codebook.assign(values, centers)])


def _fitted(item: StateTensor, state: State, weights: Arrays, bits: int) -> Tensor:
    own = state.get(PERSONAL + item.source)
    values = weights[item.source] if own is None else own.numpy()
    return torch.from_numpy(codebook.lloyd(values.ravel(), bits))


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        msg = f"training diverged: the loss is {loss} at step {step}"
        raise NonFiniteUpdate(msg)
    return loss
