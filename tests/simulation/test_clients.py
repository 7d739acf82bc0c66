"""What a client's last stage starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from reefleet.learning.objectives import Settings
from reefleet.simulation.clients import Clients, Work
from reefleet.simulation.config import DataConfig, Experiment, ModelConfig, RoundsConfig
from reefleet.simulation.ground import Grounds
from reefleet.simulation.trial import Trial

pytest.importorskip("sklearn")

EXPERIMENT = Experiment(
    "x",
    ("quped",),
    data=DataConfig(samples=120, clients=2),
    model=ModelConfig(patch_size=4, width=16, depth=1, exits=(1,)),
    rounds=RoundsConfig(total=1, per_round=1),
    training=Settings(relax_epochs=1, finetune_epochs=0),
)


def last_loss(method: str, kept: float, settings: Settings) -> float:
    """Of a client's last stage, whose personal weights from the rounds are all `kept`."""
    trial = Trial(replace(EXPERIMENT, training=settings), method, settings.rate, 0)
    clients = Clients(trial, Grounds(Path()).of(trial.experiment, 0))
    weights = clients.network.initial(0)
    stored = {f"personal/{n}": np.full_like(value, kept) for n, value in weights.items()}
    return clients.do(Work("personalize", 0, stored=stored), weights).loss


@pytest.mark.parametrize(
    ("method", "start", "goes_on"),
    [
        ("quped@2", "shared", False),
        ("quped@float", "shared", False),
        ("qupel@2", "shared", False),
        ("quped@2", "kept", True),
        ("fml", "shared", True),
    ],
)
def test_the_last_stage_starts_from_the_shared_model_unless_told_or_published_otherwise(
    method: str, start: Literal["shared", "kept"], *, goes_on: bool
) -> None:
    settings = replace(EXPERIMENT.training, start=start)
    losses = [last_loss(method, kept, settings) for kept in (0.0, 0.01)]
    assert (losses[0] != losses[1]) == goes_on
