"""A run leaves what `reefleet export build` needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.source import load
from reefleet.datasets.pack import load_parts
from reefleet.model import tensor_shapes
from reefleet.simulation.config import DataConfig, Experiment, ModelConfig, RoundsConfig
from reefleet.simulation.deployable import CONTRACT, SAMPLES
from reefleet.simulation.ground import Grounds
from reefleet.simulation.run import run
from reefleet.simulation.trial import Trial

pytest.importorskip("sklearn")

EXPERIMENT = Experiment(
    "x",
    ("reefl",),
    data=DataConfig(samples=120, clients=4),
    model=ModelConfig(patch_size=4, width=16, depth=2, exits=(1, 2), trained="lora"),
    rounds=RoundsConfig(total=1, per_round=4),
)


def test_a_run_is_a_source_of_builds_with_its_own_samples(tmp_path: Path) -> None:
    trial, ground = Trial(EXPERIMENT, "reefl", 0.05, 0), Grounds(Path()).of(EXPERIMENT, 0)
    run(trial, ground, tmp_path, lambda _: None)
    folder = tmp_path / trial.folder
    source = load(folder, None)
    assert source.contract.spec == ground.population.spec
    assert set(source.tensors) == set(tensor_shapes(ground.population.spec))
    assert source.samples == folder / SAMPLES
    (samples,) = load_parts(folder / SAMPLES, ("validation",))
    np.testing.assert_array_equal(samples.images, ground.population.validation.images)
    assert json.loads((folder / CONTRACT).read_bytes())["network"]["trained"] == "lora"
