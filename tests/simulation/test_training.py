"""What the simulator does on one client is what a device does with the compiled program."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_client.program import ResidentProgram
from edge_client.training import Lesson as DeviceLesson
from edge_client.training import Span
from edge_client.training import train as train_on_device
from export.programs import build_program
from reefleet.datasets.pack import Part, normalized
from reefleet.errors import NonFiniteUpdate
from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective, Settings, quped, reefl
from reefleet.model import ModelSpec, Preprocessing
from reefleet.simulation.training import Lesson, first_state, train

SPEC = ModelSpec(8, 4, 1, 16, 2, 2, 4, (1, 2))
PRE = Preprocessing(8, 1, 0.5, 0.25)
BATCH = 4


def a_part() -> Part:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)
    return Part(images, rng.integers(0, 4, 10))


def a_lesson(end: float) -> Lesson:
    part = a_part()
    images = torch.from_numpy(normalized(part.images, PRE))
    return Lesson(images, torch.from_numpy(part.labels), BATCH, 7, 0.25, end)


@pytest.mark.parametrize(
    "objective",
    [reefl(SPEC, 2, 2, Settings()), quped(SPEC, 1, 2, Settings(momentum=0.9))],
    ids=lambda objective: objective.name,
)
def test_a_simulated_client_trains_as_a_device_does(objective: Objective) -> None:
    weights = Network(SPEC).initial(1)
    state = first_state(objective, weights, {})
    built = build_program(objective, SPEC, BATCH, "t.onnx")
    resident = ResidentProgram(built.contract, built.graph.SerializeToString(), 1, 1 << 24)
    resident.load({name: value.numpy().copy() for name, value in state.items()})
    told = train_on_device(
        resident, DeviceLesson(a_part(), PRE, 2, 7, Span(0.25, 0.5)), lambda: None
    )
    found, loss = train(objective, state, a_lesson(0.5))
    assert loss == pytest.approx(told.loss, abs=1e-5)
    for name, value in found.items():
        np.testing.assert_allclose(resident.state[name], value, rtol=0, atol=2e-5, err_msg=name)


def test_training_that_diverges_is_named() -> None:
    objective = reefl(SPEC, 1, 1, Settings())
    state = first_state(objective, Network(SPEC).initial(1), {})
    state["shared/head.bias"] = torch.full((4,), torch.inf)
    with pytest.raises(NonFiniteUpdate, match="step 0"):
        train(objective, state, a_lesson(0.5))
