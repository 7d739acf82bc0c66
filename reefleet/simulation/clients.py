"""What the clients of a run do: a round's training, or the personal one that follows the rounds.

A client's work depends on its arguments alone, so engines may spread it over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reefleet.datasets.order import seed_from
from reefleet.datasets.pack import Part
from reefleet.errors import ConfigError
from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective
from reefleet.simulation.evaluation import exit_accuracy, exit_answers
from reefleet.simulation.ground import Ground
from reefleet.simulation.methods import Make, Method, Share, method_named
from reefleet.simulation.population import Client, Population
from reefleet.simulation.training import SHARED, Lesson, State, first_state, kept, snap, train
from reefleet.simulation.trial import Trial
from reefleet.simulation.widths import tier_network

Model = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Work:
    """One client's work: in round `number` from 0, or after the last; and what it has kept."""

    kind: Literal["federate", "personalize"]
    client: int
    number: int = 0
    stored: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: a federated delta with what the client keeps, or its own accuracy."""

    client: int
    loss: float
    delta: Model = field(default_factory=dict)
    kept: Model = field(default_factory=dict)
    accuracy: Mapping[str, list[float]] = field(default_factory=dict)


Crew = Callable[[Sequence[Work], Mapping[int, Model]], Iterable[Outcome]]
Engine = Callable[[Trial, Ground], Crew]


class Clients:
    """The clients of one run, ready to work one after another."""

    def __init__(self, trial: Trial, ground: Ground) -> None:
        self.trial = trial
        self.method, self.population = resolved(trial, ground)
        model = trial.experiment.model
        self.network = self.method.network(self.population.spec, model, trial.settings)
        self.seeds = ground.seeds or partial(seed_from, trial.seed)

    def do(self, work: Work, weights: Model) -> Outcome:
        """The work of one client from the sub-model `weights` of its depth.

        Raises NonFiniteUpdate where training diverges.
        """
        client = self.population.clients[work.client]
        # A copy: an engine may have lent memory that is not to be written.
        stored = {name: torch.tensor(value) for name, value in work.stored.items()}
        make = self.method.federate if work.kind == "federate" else self.method.finish
        if make is None:
            msg = f"method {self.trial.method} has no work of kind {work.kind}"
            raise ConfigError(msg)
        if work.kind == "personalize":
            return self._personal(make, client, weights, stored)
        rounds = self.trial.experiment.rounds
        objective = self._objective(make, client, rounds.local_epochs)
        state = first_state(objective, weights, stored)
        span = (work.number / rounds.total, (work.number + 1) / rounds.total)
        state, loss = train(objective, state, self._lesson(client, work, span))
        delta = {
            name.removeprefix(SHARED): value.numpy() - weights[name.removeprefix(SHARED)]
            for name, value in state.items()
            if name.startswith(SHARED)
        }
        held = {name: value.numpy() for name, value in kept(objective, state).items()}
        return Outcome(client.number, loss, delta, held)

    def _personal(self, make: Make, client: Client, weights: Model, stored: State) -> Outcome:
        objective = self._objective(make, client, self._personal_epochs())
        goes_on = self.method.goes_on or self.trial.settings.start == "kept"
        state = first_state(objective, weights, stored if goes_on else {})
        lesson = self._lesson(client, Work("personalize", client.number), (0.0, 1.0))
        state, loss = train(objective, state, lesson)
        snap(state, self.trial.settings.settle)
        network = self._network(client)
        roles = (self.method.answers, "frozen")
        params = {
            name.partition("/")[2]: value
            for name, value in state.items()
            if name.partition("/")[0] in roles
        }
        accuracy = {
            name: exit_accuracy(exit_answers(network, params, client.depth, *self._tensors(part)))
            for name, part in (("validation", client.validation), ("test", client.test))
        }
        return Outcome(client.number, loss, accuracy=accuracy)

    def _personal_epochs(self) -> int:
        """Of `local`: what a client trains on the average elsewhere."""
        rounds = self.trial.experiment.rounds
        share = min(1.0, rounds.per_round / len(self.population.clients))
        return max(1, round(rounds.local_epochs * rounds.total * share))

    def _network(self, client: Client) -> Network:
        return tier_network(self.network, self.method.rule, client.depth)

    def _objective(self, make: Make, client: Client, epochs: int) -> Objective:
        rounds = self.trial.experiment.rounds.total
        rule = self.trial.experiment.model.distillation
        share = Share(client.depth, client.bits, epochs, rounds, rule)
        return make(self._network(client), share, self.trial.settings)

    def _lesson(self, client: Client, work: Work, span: tuple[float, float]) -> Lesson:
        seed = self.seeds(work.kind, work.number, client.number)
        images, labels = self._tensors(client.train)
        return Lesson(images, labels, self.trial.experiment.rounds.batch_size, seed, *span)

    def _tensors(self, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        return self.population.images(part), torch.tensor(part.labels)


def resolved(trial: Trial, ground: Ground) -> tuple[Method, Population]:
    """The trial's method, and the clients with the bit-width that its name may give them."""
    method, bits = method_named(trial.method)
    population = ground.population
    if bits is None:
        return method, population
    same = tuple(replace(client, bits=bits) for client in population.clients)
    return method, replace(population, clients=same)


def local_engine(trial: Trial, ground: Ground) -> Crew:
    """One client after another in this process, each begun when the one before has been taken."""
    clients = Clients(trial, ground)

    def crew(works: Sequence[Work], weights: Mapping[int, Model]) -> Iterator[Outcome]:
        for work in works:
            yield clients.do(work, weights[clients.population.clients[work.client].depth])

    return crew
