"""Fine-tuning on the device: phases, epochs, shuffled batches, scheduled scalars."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, takewhile

import numpy as np
from numpy.typing import NDArray

from edge_client.program import ResidentProgram
from edge_client.snapping import snap
from edge_client.task import Task
from reefleet.datasets.order import seed_from, shuffled
from reefleet.datasets.pack import Part, normalize
from reefleet.errors import NonFiniteUpdate
from reefleet.model import Preprocessing


@dataclass(frozen=True, slots=True)
class Span:
    """The share of the whole run that one training covers; schedules see their place in it."""

    start: float = 0.0
    end: float = 1.0

    def at(self, done: float) -> float:
        """Progress through the run once `done` in [0, 1) of this training is over."""
        return self.start + (self.end - self.start) * done


@dataclass(frozen=True, slots=True)
class Lesson:
    """What to learn from and how: data, input contract, bit-width, seed, place in the run.

    `most_steps` ends the training early, 0 does not; so do `seconds`, after one step at least.
    """

    part: Part
    preprocessing: Preprocessing
    bits: int
    seed: int
    span: Span = Span()
    most_steps: int = 0
    seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training says of itself: mean loss over the last epoch, steps, seconds.

    `asked` is how many steps it would have had with more time.
    """

    loss: float
    steps: int
    seconds: float
    asked: int


def seed_of(device_id: str, task: Task) -> int:
    """The seed of a task's training, so that work lost to a crash is repeated bit for bit.

    It depends on what is trained, not on the lease, so the same run gives the same model again.
    """
    turn = (task.turn,) if task.turn else ()
    return seed_from(device_id, task.kind, task.round, task.weights.sha256, *turn)


def train(program: ResidentProgram, lesson: Lesson, check: Callable[[], None]) -> Trained:
    """Run every phase of the loaded program; `check` runs before each step and may raise.

    Raises NonFiniteUpdate when the loss or the final state is not finite.
    """
    begun = time.perf_counter()
    rng = np.random.default_rng(lesson.seed)
    per_epoch = math.ceil(len(lesson.part) / program.batch_size)
    total = max(1, per_epoch * sum(phase.epochs for phase in program.program.phases))
    total = min(total, lesson.most_steps or total)
    steps, loss = 0, math.nan

    def has_time(_rows: object) -> bool:
        return not steps or time.perf_counter() - begun < lesson.seconds

    for phase in program.program.phases:
        if phase.enter:
            snap(program.state, phase.enter)
        for _ in range(phase.epochs):
            losses, seen = 0.0, 0
            order = shuffled(len(lesson.part), program.batch_size, rng)
            for rows in takewhile(has_time, islice(order, total - steps)):
                check()
                fill(program, lesson, rows)
                progress = lesson.span.at(steps / total)
                scalars = {s.name: s.at(progress, phase.name) for s in program.program.scalars}
                program.step(scalars)
                losses += _finite_loss(program, steps) * len(rows)
                steps, seen = steps + 1, seen + len(rows)
            loss = losses / seen if seen else loss
    program.require_finite()
    return Trained(loss, steps, time.perf_counter() - begun, total)


def fill(program: ResidentProgram, lesson: Lesson, rows: NDArray[np.int64]) -> None:
    """Put the samples `rows` into the batch buffers; rows beyond them are zero and masked out."""
    count, batch = len(rows), program.batch
    normalize(lesson.part.images[rows], lesson.preprocessing, batch.image[:count])
    batch.label[:count] = lesson.part.labels[rows]
    batch.mask[:count] = 1.0
    for buffer in (batch.image, batch.label, batch.mask):
        buffer[count:] = 0


def _finite_loss(program: ResidentProgram, step: int) -> float:
    if not program.program.metrics:
        return math.nan
    name = "loss" if "loss" in program.metrics else program.program.metrics[0]
    value = float(program.metrics[name].sum())
    if not math.isfinite(value):
        msg = f"training diverged: {name} is {value} at step {step}; the update is not offered"
        raise NonFiniteUpdate(msg)
    return value
