"""An experiment's runs: a learning rate for each method by validation, then every seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reefleet.errors import NonFiniteUpdate
from reefleet.simulation.clients import Engine, local_engine
from reefleet.simulation.config import Experiment
from reefleet.simulation.ground import Grounds
from reefleet.simulation.methods import method_named
from reefleet.simulation.run import Show, finished, run
from reefleet.simulation.trial import Trial
from reefleet.simulation.variants import Variant

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Means:
    """How a study is run. The digits depend on torch's `threads`, which order its sums, alone."""

    engine: Engine = local_engine
    threads: int = 1


DEFAULT_MEANS = Means()


def study(
    experiment: Experiment,
    data: Path,
    out: Path,
    show: Show,
    variants: Sequence[Variant] = (),
    means: Means = DEFAULT_MEANS,
) -> dict[str, list[Figures]]:
    """Run what is missing under `out`; the figures of each row at its rate, one a seed.

    A rate at which training diverges is out; NonFiniteUpdate is raised where all are, or where
    another seed diverges at the chosen one.
    """
    torch.set_num_threads(means.threads)
    plain = [Variant(method, method, experiment) for method in experiment.methods]
    rows = [*plain, *variants]
    for row in rows:
        method_named(row.method)
    grounds = Grounds(data)

    def figures(row: Variant, rate: float, seed: int) -> Figures:
        trial = Trial(row.experiment, row.method, rate, seed, row.name)
        if (found := finished(trial, out)) is not None:
            return found
        return run(trial, grounds.of(row.experiment, seed), out, show, means.engine)

    def finite(row: Variant, rate: float) -> Figures | NonFiniteUpdate:
        try:
            return figures(row, rate, row.experiment.seeds[0])
        except NonFiniteUpdate as error:
            show(f"{row.name} at rate {rate:g}: {error}; the rate is out")
            return error

    results = {}
    for row in rows:
        best = _tuned(row, finite)
        others = [figures(row, best["rate"], seed) for seed in row.experiment.seeds[1:]]
        results[row.name] = [best, *others]
    return results


def _tuned(row: Variant, finite: Callable[[Variant, float], Figures | NonFiniteUpdate]) -> Figures:
    """Figures of the first seed at the rate that validation chooses."""
    rates = row.experiment.rates or (row.experiment.training.rate,)
    tried = {rate: finite(row, rate) for rate in sorted(rates)}
    for _ in range(row.experiment.widen):
        best = max(tried, key=lambda rate: _score(tried[rate]))
        ranked = sorted(tried)
        if best == ranked[-1]:
            further = best * best / ranked[-2]
        elif best == ranked[0]:
            further = best * best / ranked[1]
        else:
            break
        further = float(f"{further:.4g}")
        tried[further] = finite(row, further)
    good = [found for found in tried.values() if isinstance(found, dict)]
    if not good:
        msg = f"{row.name} diverged at every rate: {next(iter(tried.values()))}"
        raise NonFiniteUpdate(msg)
    return max(good, key=chosen_by)


def _score(found: Figures | NonFiniteUpdate) -> float:
    return chosen_by(found) if isinstance(found, dict) else -math.inf


def chosen_by(figures: Figures) -> float:
    """Validation accuracy that chooses a rate: of what the clients end with."""
    key = "personal_validation" if "personal_validation" in figures else "validation"
    value = float(figures[key])
    return value if math.isfinite(value) else -1.0


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample deviation; the deviation of a single value is 0."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), deviation
