from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reefleet.errors import ConfigError
from reefleet.learning.network import Network
from reefleet.learning.pretraining import identity_ree
from reefleet.model import ModelSpec, parameter_count
from reefleet.simulation.checkpoint import shared_model
from reefleet.simulation.config import (
    DataConfig,
    Experiment,
    FleetConfig,
    ModelConfig,
    RoundsConfig,
)
from reefleet.simulation.ground import Grounds
from reefleet.simulation.run import run
from reefleet.simulation.trial import Trial

pytest.importorskip("sklearn")

EXPERIMENT = Experiment(
    "x",
    ("reefl",),
    data=DataConfig(samples=120, clients=4),
    model=ModelConfig(patch_size=4, width=16, depth=2, exits=(1, 2)),
    rounds=RoundsConfig(total=1, per_round=4),
)


def ran(experiment: Experiment, out: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures and shared model of one run."""
    trial = Trial(experiment, "reefl", 0.05, 0)
    figures = run(trial, Grounds(Path()).of(experiment, 0), out, lambda _: None)
    return figures, shared_model(out / trial.folder)


def test_without_the_holder_mask_who_lacks_a_row_votes_to_leave_it(tmp_path: Path) -> None:
    free = replace(EXPERIMENT, model=replace(EXPERIMENT.model, holder_mask=False))
    _, masked = ran(EXPERIMENT, tmp_path / "on")
    _, diluted = ran(free, tmp_path / "off")
    population = Grounds(Path()).of(EXPERIMENT, 0).population
    first = Network(population.spec).initial(0)["ree.depth_embed.2"]
    counts = [len(client.train) for client in population.clients]
    held = (counts[1] + counts[3]) / sum(counts)
    moved = masked["ree.depth_embed.2"] - first
    assert np.abs(moved).max() > 1e-4
    np.testing.assert_allclose(diluted["ree.depth_embed.2"] - first, held * moved, atol=1e-7)
    np.testing.assert_array_equal(masked["ree.depth_embed.1"], diluted["ree.depth_embed.1"])


def test_coded_updates_take_fewer_bytes_and_leave_a_residual(tmp_path: Path) -> None:
    rounds = RoundsConfig(total=3, per_round=4, codec="codebook4")
    plain, _ = ran(replace(EXPERIMENT, rounds=replace(rounds, codec="float32")), tmp_path / "raw")
    figures, model = ran(replace(EXPERIMENT, rounds=rounds), tmp_path / "coded")
    assert figures["bytes_up"] < plain["bytes_up"] / 2
    assert figures["bytes_down"] == plain["bytes_down"]
    assert all(np.isfinite(value).all() for value in model.values())


def test_a_codec_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="codec"):
        replace(EXPERIMENT, rounds=RoundsConfig(codec="zip"))


def test_a_fleet_of_the_deepest_boards_sends_full_models_alone(tmp_path: Path) -> None:
    alone = replace(EXPERIMENT, fleet=FleetConfig(deepest_only=True))
    figures, _ = ran(alone, tmp_path)
    spec = Grounds(Path()).of(EXPERIMENT, 0).population.spec
    assert figures["bytes_up"] == 2 * 4 * parameter_count(spec)


def test_a_stratified_cohort_holds_every_block(tmp_path: Path) -> None:
    rounds = RoundsConfig(total=1, per_round=2, cohort="stratified")
    figures, _ = ran(replace(EXPERIMENT, rounds=rounds), tmp_path)
    spec = Grounds(Path()).of(EXPERIMENT, 0).population.spec
    assert figures["bytes_up"] == 2 * 4 * parameter_count(spec)


def test_early_exits_are_told_with_the_accuracy(tmp_path: Path) -> None:
    figures, _ = ran(EXPERIMENT, tmp_path)
    curve = figures["early_exit"]["curve"]
    assert curve[0][0] == figures["exit_macs"][0]
    assert [share for _, share in (curve[0], curve[-1])] == figures["test_exits"]
    assert min(figures["test_exits"]) <= figures["area"] <= max(s for _, s in curve)


def test_ree_starts_as_the_identity_over_a_pretrained_backbone() -> None:
    spec = ModelSpec(8, 4, 1, 16, 2, 3, 4, (1, 2, 3))
    first = {n: torch.from_numpy(v) for n, v in Network(spec).initial(0).items()}
    quiet = {**first, **identity_ree(Network(spec))}
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    on, off = (Network(spec, modulation=m).logits(quiet, 3, images) for m in ("on", "off"))
    assert torch.equal(on, off)
    assert not torch.equal(Network(spec).logits(first, 3, images), on)
    assert identity_ree(Network(spec, "heads")) == {}
