"""Baselines and variants as graphs: onnxruntime against eager torch, step after step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from export.programs import NEXT, build_program, flat_step
from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective, Settings
from reefleet.learning.objectives.exits import Recipe, exits_objective
from reefleet.learning.objectives.rivals import fml, per_fedavg, pfedme, qupel
from reefleet.model import ModelSpec
from reefleet.simulation.training import first_state

SPEC = ModelSpec(8, 4, 1, 16, 2, 2, 4, (1, 2))
BATCH = 4
TOLERANCE = 1e-5  # float32 sums in another order, over the steps of one test
REE, HEADS = Network(SPEC), Network(SPEC, "heads")
RECIPES = [
    Recipe("reefl", REE),
    Recipe("reefl-paper", REE, "paper"),
    Recipe("reefl-off", Network(SPEC, modulation="off")),
    Recipe("reefl-detached", Network(SPEC, modulation="detached")),
    Recipe("reefl-frozen", Network(SPEC, trained="frozen")),
    Recipe("reefl-lora", Network(SPEC, modulation="detached", trained="lora", lora_rank=2)),
    Recipe("reefl-ssf", Network(SPEC, trained="ssf")),
    Recipe("reefl-adapters", Network(SPEC, trained="adapters", lora_rank=2)),
    Recipe("reefl-parallel", Network(SPEC, trained="parallel-adapters", lora_rank=2)),
    Recipe("depthfl", HEADS, "all-pairs"),
    Recipe("depthfl-dyn", HEADS, "all-pairs", dynamic=True),
    Recipe("fedavg", HEADS, "sum"),
    Recipe("inclusivefl", HEADS, "last"),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_exits_graph_equals_eager_torch_over_several_steps(recipe: Recipe) -> None:
    settings = Settings(rate=0.1, momentum=0.9 if recipe.rule == "paper" else 0.0)
    check_parity(exits_objective(recipe, 2, 1, settings), recipe.network)


PLAIN = Settings(rate=0.1, personal_rate=0.1, inner_steps=2)
RIVALS = [
    fml(HEADS, 2, 1, replace(PLAIN, momentum=0.9)),
    qupel(REE, 2, 2, 1, PLAIN),
    pfedme(HEADS, 2, 1, PLAIN),
    per_fedavg(HEADS, 2, 1, PLAIN),
]


@pytest.mark.parametrize("objective", RIVALS, ids=lambda objective: objective.name)
def test_rival_graph_equals_eager_torch_over_several_steps(objective: Objective) -> None:
    check_parity(objective, REE if objective.name == "qupel" else HEADS)


def check_parity(objective: Objective, network: Network) -> None:
    graph = build_program(objective, SPEC, BATCH, "t").graph
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    fed = {n: v.numpy() for n, v in first_state(objective, network.initial(3), {}).items()}
    state = {name: torch.from_numpy(value.copy()) for name, value in fed.items()}
    names = [node.name for node in session.get_outputs()]
    generator = torch.Generator().manual_seed(5)
    for number in range(3):
        inputs = {
            "image": torch.randn(BATCH, 1, 8, 8, generator=generator),
            "label": torch.randint(0, 4, (BATCH,), generator=generator),
            "mask": (torch.arange(BATCH) < BATCH - number).float(),
            **{s.name: torch.tensor(s.at(0.5 + number / 6, "local")) for s in objective.scalars},
        }
        expected = flat_step(objective)({**state, **inputs})
        arrays = {name: value.numpy() for name, value in inputs.items()}
        found = dict(zip(names, session.run(None, {**fed, **arrays}), strict=True))
        for name, value in expected.items():
            error = np.abs(found[name] - value.detach().numpy()).max()
            assert error <= TOLERANCE, f"{name} differs by {error} at step {number}"
        moved = [name for name in state if NEXT + name in expected]
        state |= {name: expected[NEXT + name].detach() for name in moved}
        fed |= {name: found[NEXT + name] for name in moved}


def test_depthfl_dyn_corrects_by_what_the_device_moved() -> None:
    recipe = Recipe("depthfl-dyn", HEADS, "all-pairs", dynamic=True)
    settings = Settings(rate=0.1, dynamic=0.5)
    objective = exits_objective(recipe, 2, 1, settings)
    first = first_state(objective, HEADS.initial(3), {})
    state, batch = first, {"image": torch.ones(2, 1, 8, 8), "label": torch.tensor([0, 3])}
    scalars = {s.name: torch.tensor(s.at(0.5, "local")) for s in objective.scalars}
    for _ in range(3):
        state, _ = objective.step(state, {**batch, "mask": torch.ones(2)}, scalars)
    name = "exits.2.weight"
    moved = state[f"shared/{name}"] - first[f"shared/{name}"]
    torch.testing.assert_close(state[f"statistic/correction/{name}"], -0.5 * moved)


def test_frozen_tensors_stay_and_are_not_sent() -> None:
    recipe = Recipe("reefl-frozen", Network(SPEC, trained="frozen"))
    objective = exits_objective(recipe, 2, 1, Settings())
    sent = {tensor.name for tensor in objective.state if tensor.role == "shared"}
    assert sent == {f"shared/{name}" for name in recipe.network.trained_names(2)}
    assert "frozen/blocks.0.mlp.fc1.weight" in {tensor.name for tensor in objective.state}
