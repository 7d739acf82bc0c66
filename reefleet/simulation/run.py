"""One run: one method at one learning rate and seed, from the first round to its figures.

All randomness follows from (seed, round, client), so a run that was killed goes on from its last
checkpoint to the same digits.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reefleet.blobs import write_atomic
from reefleet.datasets.pack import Part
from reefleet.errors import EmptyRound
from reefleet.learning.objectives import Objective, Settings
from reefleet.simulation import checkpoint
from reefleet.simulation.checkpoint import Progress
from reefleet.simulation.config import Experiment
from reefleet.simulation.evaluation import exit_accuracy, shared_accuracy
from reefleet.simulation.methods import Make, Share, method_named
from reefleet.simulation.population import Client, Population
from reefleet.simulation.server import Server
from reefleet.simulation.training import (
    SHARED,
    Lesson,
    first_state,
    kept,
    seed_of,
    snap,
    train,
)

CLIENTS_BETWEEN_CHECKPOINTS = 25
Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """Which run this is."""

    experiment: Experiment
    method: str
    rate: float
    seed: int

    @property
    def settings(self) -> Settings:
        """The experiment's settings with this rate; the end and the personal rates keep ratio."""
        base = self.experiment.training
        factor = self.rate / base.rate
        return replace(
            base,
            rate=self.rate,
            rate_end=base.rate_end * factor,
            personal_rate=base.personal_rate * factor,
            personal_rate_end=base.personal_rate_end * factor,
        )

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        return f"{self.method}-rate{self.rate:g}-seed{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides the digits."""
        facts = asdict(replace(self.experiment, name="", methods=("",), seeds=(0,), rates=()))
        told = json.dumps([facts, self.method, self.rate, self.seed], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Ground:
    """What all methods start from alike: the clients, and a pre-trained backbone where asked."""

    population: Population
    backbone: Mapping[str, NDArray[np.float32]]


def finished(trial: Trial, out: Path) -> dict[str, Any] | None:
    """Figures of a run that was finished before; raises ConfigError for another experiment's."""
    done = out / trial.folder / checkpoint.RESULT
    if not done.exists() or checkpoint.load(done.parent, trial.fingerprint) is None:
        return None
    found: dict[str, Any] = json.loads(done.read_bytes())
    return found


def run(trial: Trial, ground: Ground, out: Path, show: Show) -> dict[str, Any]:
    """Run or go on with `trial` under `out`; gives its figures, which also lie in result.json."""
    folder = out / trial.folder
    folder.mkdir(parents=True, exist_ok=True)
    progress = checkpoint.load(folder, trial.fingerprint) or Progress()
    result = _Run(trial, ground, folder, progress, show).finish()
    write_atomic(folder / checkpoint.RESULT, (json.dumps(result, indent=2) + "\n").encode())
    return result


class _Run:
    def __init__(
        self, trial: Trial, ground: Ground, folder: Path, progress: Progress, show: Show
    ) -> None:
        self.trial, self.folder = trial, folder
        population = ground.population
        self.progress, self.show = progress, show
        self.method, bits = method_named(trial.method)
        network = self.method.network(population.spec, trial.experiment.model, trial.settings)
        first = {**network.initial(trial.seed), **ground.backbone}
        alpha = trial.settings.dynamic
        self.server = Server.start(network, self.method.rule, len(population.clients), alpha, first)
        if progress.model:
            self.server.model, self.server.memory = progress.model, progress.memory
        if bits:
            same = tuple(replace(client, bits=bits) for client in population.clients)
            population = replace(population, clients=same)
        self.population = population
        deepest = max(client.depth for client in population.clients)
        self.depth = deepest
        self.able = [
            c for c in population.clients if c.depth == deepest or not self.method.deepest_only
        ]
        self.begun = time.perf_counter() - progress.seconds

    def finish(self) -> dict[str, Any]:
        """Go through the rounds and what follows them."""
        if federate := self.method.federate:
            for number in range(self.progress.rounds, self.trial.experiment.rounds.total):
                self._round(number, federate)
        if finish := self.method.finish:
            for client in self.population.clients[len(self.progress.personal) :]:
                self._personal(client, finish)
        self._save()
        return self._result()

    def _round(self, number: int, make: Make) -> None:
        rounds = self.trial.experiment.rounds
        rng = np.random.default_rng([self.trial.seed, 3, number])
        chosen = rng.permutation(len(self.able))[: rounds.per_round]
        cohort = [self.able[index] for index in sorted(chosen)]
        if not cohort:
            msg = "no client can take part; check fleet.depths"
            raise EmptyRound(msg)
        losses = [self._update(client, number, make) for client in cohort]
        self.server.finish()
        self.progress.rounds = number + 1
        line: dict[str, Any] = {"round": number + 1, "loss": sum(losses) / len(losses)}
        if (number + 1) % rounds.evaluate_every == 0 or number + 1 == rounds.total:
            line["validation"] = self._shared(self.population.validation)
            self.progress.lines.append(line)
            self._save()
        else:
            self.progress.lines.append(line)
        self.show(f"{self.trial.folder} round {number + 1}/{rounds.total} {_said(line)}")

    def _update(self, client: Client, number: int, make: Make) -> float:
        rounds = self.trial.experiment.rounds
        objective = self._objective(make, client, rounds.local_epochs)
        weights = self.server.cut(client.depth)
        stored = self._stored(client)
        state = first_state(objective, weights, stored, client.bits)
        span = (number / rounds.total, (number + 1) / rounds.total)
        lesson = self._lesson(client, "federate", number, span)
        state, loss = train(objective, state, lesson)
        delta = {
            name.removeprefix(SHARED): value.numpy() - weights[name.removeprefix(SHARED)]
            for name, value in state.items()
            if name.startswith(SHARED)
        }
        self.server.fold(client.depth, delta, len(client.train))
        held = kept(objective, state)
        self.progress.clients[client.number] = {n: v.numpy() for n, v in held.items()}
        size = sum(value.nbytes for value in delta.values())
        self.progress.bytes_up += size
        self.progress.bytes_down += size
        return loss

    def _personal(self, client: Client, make: Make) -> None:
        rounds = self.trial.experiment.rounds
        epochs = max(
            1,
            round(
                rounds.local_epochs
                * rounds.total
                * min(1.0, rounds.per_round / len(self.population.clients))
            ),
        )  # of `local`: what a client trains on the average elsewhere
        objective = self._objective(make, client, epochs)
        state = first_state(
            objective, self.server.cut(client.depth), self._stored(client), client.bits
        )
        state, _ = train(objective, state, self._lesson(client, "personalize", 0, (0.0, 1.0)))
        snap(state)
        roles = (self.method.answers, "frozen")
        params = {
            name.partition("/")[2]: value
            for name, value in state.items()
            if name.partition("/")[0] in roles
        }
        figures = {
            name: exit_accuracy(self.server.network, params, client.depth, *self._tensors(part))
            for name, part in (("validation", client.validation), ("test", client.test))
        }
        self.progress.personal.append({"client": client.number, "depth": client.depth, **figures})
        if len(self.progress.personal) % CLIENTS_BETWEEN_CHECKPOINTS == 0:
            self._save()
            done, count = len(self.progress.personal), len(self.population.clients)
            self.show(f"{self.trial.folder} personal {done}/{count}")

    def _objective(self, make: Make, client: Client, epochs: int) -> Objective:
        rounds = self.trial.experiment.rounds.total
        share = Share(client.depth, client.bits, epochs, rounds)
        return make(self.server.network, share, self.trial.settings)

    def _stored(self, client: Client) -> dict[str, torch.Tensor]:
        found = self.progress.clients.get(client.number, {})
        return {name: torch.from_numpy(value) for name, value in found.items()}

    def _lesson(self, client: Client, kind: str, number: int, span: tuple[float, float]) -> Lesson:
        seed = seed_of(self.trial.seed, kind, number, client.number)
        images, labels = self._tensors(client.train)
        batch = self.trial.experiment.rounds.batch_size
        return Lesson(images, labels, batch, seed, *span)

    def _tensors(self, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        return self.population.images(part), torch.from_numpy(part.labels)

    def _shared(self, part: Part) -> list[float]:
        return shared_accuracy(self.server, self.depth, *self._tensors(part))

    def _save(self) -> None:
        self.progress.model, self.progress.memory = self.server.model, self.server.memory
        self.progress.seconds = time.perf_counter() - self.begun
        checkpoint.save(self.folder, self.progress, self.trial.fingerprint)

    def _result(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        spec = self.population.spec
        if self.method.federate:
            figures["exits"] = list(spec.exits_within(self.depth))
            figures["validation_exits"] = self._shared(self.population.validation)
            figures["test_exits"] = self._shared(self.population.test)
            figures["validation"] = _mean(figures["validation_exits"])
            figures["test"] = _mean(figures["test_exits"])
        if personal := self.progress.personal:
            for part in ("validation", "test"):
                own = [client[part] for client in personal if client[part]]
                figures[f"personal_{part}"] = _mean([_mean(exits) for exits in own])
                figures[f"personal_{part}_deepest"] = _mean([exits[-1] for exits in own])
        return {
            "method": self.trial.method,
            "rate": self.trial.rate,
            "seed": self.trial.seed,
            **figures,
            "exit_macs": [self.server.network.macs(e) for e in spec.exits_within(self.depth)],
            "bytes_up": self.progress.bytes_up,
            "bytes_down": self.progress.bytes_down,
            "seconds": round(self.progress.seconds, 1),
        }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _said(line: dict[str, Any]) -> str:
    exits = " ".join(f"{100 * share:.1f}" for share in line.get("validation", ()))
    return f"loss {line['loss']:.3f}" + (f" validation {exits}" if exits else "")
