"""What all methods of an experiment start from alike: clients, and a backbone pre-trained once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reefleet.learning.network import Network
from reefleet.learning.pretraining import Pretraining, identity_ree, pretrain_backbone
from reefleet.simulation.config import DataConfig, Experiment, FleetConfig, ModelConfig
from reefleet.simulation.population import Population, populate

Backbone = Mapping[str, NDArray[np.float32]]
Basis = tuple[DataConfig, ModelConfig, int]


@dataclass(frozen=True, slots=True)
class Ground:
    """The clients, and a pre-trained backbone where asked.

    `seeds` gives the seed of a lesson by kind, round from 0 and client's number, where a real
    fleet's run is to be repeated; without it they follow from the run's seed.
    """

    population: Population
    backbone: Backbone
    ree: Literal["identity", "random"] = "identity"
    seeds: Callable[[str, int, int], int] | None = None

    def started(self, network: Network) -> dict[str, NDArray[np.float32]]:
        """First values that are not random: the backbone's, and Ree's zeros that leave it alone."""
        if not self.backbone or self.ree == "random":
            return dict(self.backbone)
        quiet = {name: value.numpy() for name, value in identity_ree(network).items()}
        return {**self.backbone, **quiet}


@dataclass(slots=True, eq=False)
class Grounds:
    """Grounds made so far; variants that differ in their fleet share the backbone."""

    data: Path
    _grounds: dict[tuple[Basis, FleetConfig, str], Ground] = field(default_factory=dict)
    _backbones: dict[Basis, Backbone] = field(default_factory=dict)

    def of(self, experiment: Experiment, seed: int) -> Ground:
        """The ground of this experiment's runs with this seed."""
        basis = (experiment.data, _geometry(experiment.model), seed)
        key = (basis, experiment.fleet, experiment.model.ree_start)
        if key not in self._grounds:
            population = populate(experiment, self.data, seed)
            if basis not in self._backbones:
                self._backbones[basis] = _pretrained(experiment, population, seed)
            ground = Ground(population, self._backbones[basis], experiment.model.ree_start)
            self._grounds[key] = ground
        return self._grounds[key]


def _geometry(model: ModelConfig) -> ModelConfig:
    """The part of a model's table that decides clients' input and the backbone."""
    plain = ModelConfig()
    return replace(
        model,
        modulation=plain.modulation,
        trained=plain.trained,
        distillation=plain.distillation,
        holder_mask=plain.holder_mask,
        ree_start=plain.ree_start,
    )


def _pretrained(experiment: Experiment, population: Population, seed: int) -> Backbone:
    if not len(population.public):
        return {}
    backbone = pretrain_backbone(
        Network(population.spec, "heads"),
        population.images(population.public),
        torch.from_numpy(population.public.labels),
        seed,
        Pretraining(epochs=experiment.model.public_epochs),
    )
    return {name: value.numpy() for name, value in backbone.items()}
