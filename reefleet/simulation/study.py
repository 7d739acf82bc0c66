"""An experiment's runs: a learning rate for each method by validation, then every seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reefleet.errors import NonFiniteUpdate
from reefleet.learning.network import Network
from reefleet.learning.pretraining import Pretraining, pretrain_backbone
from reefleet.simulation.config import Experiment
from reefleet.simulation.methods import method_named
from reefleet.simulation.population import populate
from reefleet.simulation.run import Ground, Show, Trial, finished, run

Figures = dict[str, Any]


def study(
    experiment: Experiment, data: Path, out: Path, show: Show, threads: int = 1
) -> dict[str, list[Figures]]:
    """Run what is missing under `out`; the figures of each method at its rate, one a seed.

    A rate at which training diverges is out; NonFiniteUpdate is raised where all are, or where
    another seed diverges at the chosen one. The digits depend on `threads`, torch's own, because
    sums are then taken in another order.
    """
    torch.set_num_threads(threads)
    for method in experiment.methods:
        method_named(method)
    grounds: dict[int, Ground] = {}

    def figures(method: str, rate: float, seed: int) -> Figures:
        trial = Trial(experiment, method, rate, seed)
        if (found := finished(trial, out)) is not None:
            return found
        if seed not in grounds:
            grounds[seed] = _ground(experiment, data, seed)
        return run(trial, grounds[seed], out, show)

    def finite(method: str, rate: float, seed: int) -> Figures | NonFiniteUpdate:
        try:
            return figures(method, rate, seed)
        except NonFiniteUpdate as error:
            show(f"{method} at rate {rate:g}: {error}; the rate is out")
            return error

    rates = experiment.rates or (experiment.training.rate,)
    results = {}
    for method in experiment.methods:
        tried = [finite(method, rate, experiment.seeds[0]) for rate in rates]
        if not (good := [found for found in tried if isinstance(found, dict)]):
            msg = f"{method} diverged at every rate: {tried[-1]}"
            raise NonFiniteUpdate(msg)
        best = max(good, key=chosen_by)
        others = [figures(method, best["rate"], seed) for seed in experiment.seeds[1:]]
        results[method] = [best, *others]
    return results


def _ground(experiment: Experiment, data: Path, seed: int) -> Ground:
    population = populate(experiment, data, seed)
    if not len(population.public):
        return Ground(population, {})
    backbone = pretrain_backbone(
        Network(population.spec, "heads"),
        population.images(population.public),
        torch.from_numpy(population.public.labels),
        seed,
        Pretraining(epochs=experiment.model.public_epochs),
    )
    return Ground(population, {name: value.numpy() for name, value in backbone.items()})


def chosen_by(figures: Figures) -> float:
    """Validation accuracy that chooses a rate: of what the clients end with."""
    key = "personal_validation" if "personal_validation" in figures else "validation"
    value = float(figures[key])
    return value if math.isfinite(value) else -1.0


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample deviation; the deviation of a single value is 0."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), deviation
