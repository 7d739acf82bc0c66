"""One run: one method at one learning rate and seed, from the first round to its figures.

All randomness follows from (seed, round, client), so a run that was killed goes on from its last
checkpoint to the same digits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reefleet.aggregation.cohort import stratified
from reefleet.blobs import write_atomic
from reefleet.datasets.order import seed_from
from reefleet.datasets.pack import Part
from reefleet.errors import EmptyRound
from reefleet.learning.network import Network
from reefleet.learning.pretraining import DEPTH_ROWS
from reefleet.simulation import checkpoint, deployable
from reefleet.simulation.checkpoint import Progress
from reefleet.simulation.clients import Crew, Engine, Outcome, Work, local_engine, resolved
from reefleet.simulation.early_exit import Answers, area, early_exit
from reefleet.simulation.evaluation import exit_accuracy, leaving_macs, shared_answers
from reefleet.simulation.ground import Ground
from reefleet.simulation.population import Client
from reefleet.simulation.server import Model, Server
from reefleet.simulation.trial import Trial
from reefleet.simulation.uplink import send, without_residual

CLIENTS_BETWEEN_CHECKPOINTS = 25
Show = Callable[[str], None]


def finished(trial: Trial, out: Path) -> dict[str, Any] | None:
    """Figures of a run that was finished before; raises ConfigError for another experiment's."""
    done = out / trial.folder / checkpoint.RESULT
    if not done.exists() or checkpoint.load(done.parent, trial.fingerprint) is None:
        return None
    found: dict[str, Any] = json.loads(done.read_bytes())
    return found


def run(
    trial: Trial, ground: Ground, out: Path, show: Show, engine: Engine = local_engine
) -> dict[str, Any]:
    """Run or go on with `trial` under `out`; gives its figures, which also lie in result.json."""
    folder = out / trial.folder
    folder.mkdir(parents=True, exist_ok=True)
    progress = checkpoint.load(folder, trial.fingerprint) or Progress()
    result = _Run(trial, ground, folder, progress, show).finish(engine(trial, ground))
    write_atomic(folder / checkpoint.RESULT, (json.dumps(result, indent=2) + "\n").encode())
    return result


class _Run:
    def __init__(
        self, trial: Trial, ground: Ground, folder: Path, progress: Progress, show: Show
    ) -> None:
        self.trial, self.folder = trial, folder
        self.progress, self.show = progress, show
        self.method, self.population = resolved(trial, ground)
        clients, spec = self.population.clients, self.population.spec
        network = self.method.network(spec, trial.experiment.model, trial.settings)
        first = {**network.initial(trial.seed), **ground.started(network)}
        alpha = trial.settings.dynamic
        self.server = Server.start(network, self.method.rule, len(clients), alpha, first)
        if progress.model:
            self.server.model, self.server.memory = progress.model, progress.memory
        self.depth = deepest = max(client.depth for client in clients)
        alone = self.method.deepest_only or trial.experiment.fleet.deepest_only
        self.able = [c for c in clients if c.depth == deepest or not alone]
        self.begun = time.perf_counter() - progress.seconds

    def finish(self, crew: Crew) -> dict[str, Any]:
        """Go through the rounds and what follows them."""
        if self.method.federate:
            for number in range(self.progress.rounds, self.trial.experiment.rounds.total):
                self._round(number, crew)
        if self.method.finish:
            self._personal(crew)
        self._save()
        deployable.write(self.folder, self.population, self.server.network)
        return self._result()

    def _round(self, number: int, crew: Crew) -> None:
        rounds = self.trial.experiment.rounds
        cohort = self._cohort(number)
        if not cohort:
            msg = "no client can take part; check fleet.depths"
            raise EmptyRound(msg)
        works = [Work("federate", c.number, number, self._stored(c)) for c in cohort]
        losses = [self._fold(outcome) for outcome in crew(works, self._cuts(cohort))]
        self.server.finish()
        self.progress.rounds = number + 1
        line: dict[str, Any] = {"round": number + 1, "loss": sum(losses) / len(losses)}
        if (number + 1) % rounds.evaluate_every == 0 or number + 1 == rounds.total:
            line["validation"] = exit_accuracy(self._shared(self.population.validation))
            self.progress.lines.append(line)
            self._save()
        else:
            self.progress.lines.append(line)
        self.show(f"{self.trial.folder} round {number + 1}/{rounds.total} {_said(line)}")

    def _cohort(self, number: int) -> list[Client]:
        rounds = self.trial.experiment.rounds
        if rounds.cohort == "stratified":
            seed = seed_from(self.trial.seed, "cohort", number)
            drawn = stratified(self.able, lambda client: client.depth, rounds.per_round, seed)
            return sorted(drawn, key=lambda client: client.number)
        rng = np.random.default_rng([self.trial.seed, 3, number])
        chosen = rng.permutation(len(self.able))[: rounds.per_round]
        return [self.able[index] for index in sorted(chosen)]

    def _fold(self, outcome: Outcome) -> float:
        client = self.population.clients[outcome.client]
        held = self.progress.clients.get(client.number, {})
        arrived = send(outcome.delta, self.trial.experiment.rounds.codec, held)
        self.server.fold(client.depth, self._voted(arrived.delta), len(client.train))
        self.progress.clients[client.number] = {**outcome.kept, **arrived.lost}
        self.progress.bytes_up += arrived.size_bytes
        self.progress.bytes_down += sum(value.nbytes for value in outcome.delta.values())
        return outcome.loss

    def _voted(self, delta: Model) -> Model:
        if self.trial.experiment.model.holder_mask:
            return delta
        rows = [name for name in self.server.model if name.startswith(DEPTH_ROWS)]
        return {**{name: np.zeros_like(self.server.model[name]) for name in rows}, **delta}

    def _personal(self, crew: Crew) -> None:
        clients, done = self.population.clients, self.progress.personal
        while len(done) < len(clients):
            some = clients[len(done) : len(done) + CLIENTS_BETWEEN_CHECKPOINTS]
            works = [Work("personalize", c.number, stored=self._stored(c)) for c in some]
            for outcome in crew(works, self._cuts(some)):
                depth = clients[outcome.client].depth
                done.append({"client": outcome.client, "depth": depth, **outcome.accuracy})
            self._save()
            self.show(f"{self.trial.folder} personal {len(done)}/{len(clients)}")

    def _cuts(self, clients: Sequence[Client]) -> dict[int, Model]:
        return {depth: self.server.cut(depth) for depth in {client.depth for client in clients}}

    def _stored(self, client: Client) -> Model:
        return without_residual(self.progress.clients.get(client.number, {}))

    def _shared(self, part: Part) -> Answers:
        images, labels = self.population.images(part), torch.from_numpy(part.labels)
        return shared_answers(self.server, self.depth, images, labels)

    def _leaving(self, known: Answers, met: Answers) -> dict[str, Any]:
        """Figures of early exits; the area is over the costs of plain heads, for all methods."""
        found = early_exit(known, met, leaving_macs(self.server, self.depth))
        spec = self.population.spec
        least, most = (Network(spec, "heads").macs(e) for e in (spec.exits[0], self.depth))
        return {"early_exit": found, "area": area(found["curve"], least, most)}

    def _save(self) -> None:
        self.progress.model, self.progress.memory = self.server.model, self.server.memory
        self.progress.seconds = time.perf_counter() - self.begun
        checkpoint.save(self.folder, self.progress, self.trial.fingerprint)

    def _result(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        exits = self.population.spec.exits_within(self.depth)
        if self.method.federate:
            figures["exits"] = list(exits)
            known, met = map(self._shared, (self.population.validation, self.population.test))
            figures["validation_exits"], figures["test_exits"] = map(exit_accuracy, (known, met))
            figures["validation"] = _mean(figures["validation_exits"])
            figures["test"] = _mean(figures["test_exits"])
            if len(known.labels) and len(met.labels):
                figures |= self._leaving(known, met)
        if personal := self.progress.personal:
            for part in ("validation", "test"):
                own = [client[part] for client in personal if client[part]]
                figures[f"personal_{part}"] = _mean([_mean(exits) for exits in own])
                figures[f"personal_{part}_deepest"] = _mean([exits[-1] for exits in own])
        return {
            "method": self.trial.method,
            "name": self.trial.name or self.trial.method,
            "rate": self.trial.rate,
            "seed": self.trial.seed,
            **figures,
            "exit_macs": [self.server.network_of(e).macs(e) for e in exits],
            "bytes_up": self.progress.bytes_up,
            "bytes_down": self.progress.bytes_down,
            "seconds": round(self.progress.seconds, 1),
        }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _said(line: dict[str, Any]) -> str:
    exits = " ".join(f"{100 * share:.1f}" for share in line.get("validation", ()))
    return f"loss {line['loss']:.3f}" + (f" validation {exits}" if exits else "")
