"""The training graph is the algorithm: onnxruntime against eager torch, step after step."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from export.lowering import lower
from export.programs import (
    METRIC,
    NEXT,
    build_program,
    example_inputs,
    flat_step,
    objectives_for,
)
from export.trace import trace
from reefleet.errors import ConfigError, UnsupportedOperator
from reefleet.geometry.trained import holding
from reefleet.learning.objectives import Objective, Settings, quped
from reefleet.learning.vit import init_params
from reefleet.model import ModelSpec, quantized_tensors, sent_shapes, tensor_shapes
from reefleet.plan import SubmodelPlan
from reefleet.simulation.training import first_state as simulated_state
from reefleet.simulation.training import snap
from reefleet.wire.codebook import lloyd

SPEC = ModelSpec(
    image_size=8, patch_size=4, channels=1, width=16, heads=2, depth=2, classes=4, exits=(1, 2)
)
CODED = quantized_tensors(SPEC, 1)
INITIAL = {name: value.numpy() for name, value in init_params(SPEC, 3).items()}
BATCH = 6
# The soft quantizer multiplies what float32 sums in another order differ by.
TOLERANCE = 1e-4


def a_plan(depth: int, bits: int, models: int) -> SubmodelPlan:
    return SubmodelPlan(depth, bits, BATCH, 1, models, "float32")


def first_state(objective: Objective, bits: int) -> dict[str, Tensor]:
    """State as a device would start it."""
    weights = init_params(SPEC, 3)
    state = {}
    for tensor in objective.state:
        if tensor.init == "weights":
            state[tensor.name] = weights[tensor.source].clone()
        elif tensor.init == "lloyd":
            centers = lloyd(weights[tensor.source].numpy().ravel(), bits)
            state[tensor.name] = torch.from_numpy(centers)
        else:
            state[tensor.name] = torch.zeros(tensor.shape)
    return state


def batches() -> list[dict[str, Tensor]]:
    """Three batches; the last has two real rows and padding that must not count."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for real in (BATCH, BATCH, 2):
        image = torch.randn(BATCH, 1, 8, 8, generator=generator)
        image[real:] = 1e3
        label = torch.randint(0, 4, (BATCH,), generator=generator)
        mask = (torch.arange(BATCH) < real).float()
        made.append({"image": image, "label": label, "mask": mask})
    return made


CASES = [
    (program, depth, bits, models, momentum, phase)
    for depth in (1, 2)
    for program, bits, models, momentum, phase in (
        ("federate", 2, 1, 0.9, "local"),
        ("federate", 2, 2, 0.0, "local"),
        ("federate", 5, 2, 0.9, "local"),
        ("personalize", 2, 1, 0.0, "relax"),
        ("personalize", 5, 1, 0.9, "relax"),
        ("personalize", 2, 1, 0.9, "finetune"),
    )
]


@pytest.mark.parametrize(("program", "depth", "bits", "models", "momentum", "phase"), CASES)
def test_graph_equals_eager_torch_over_several_steps(
    program: str, depth: int, bits: int, models: int, momentum: float, phase: str
) -> None:
    plan = a_plan(depth, bits, models)
    settings = Settings(momentum=momentum, rate=0.1, personal_rate=0.1, finetune_rate=0.1)
    objective = objectives_for(SPEC, plan, settings)[program]
    built = build_program(objective, SPEC, BATCH, "train.onnx")
    session = onnxruntime.InferenceSession(built.graph.SerializeToString())
    names = [node.name for node in session.get_outputs()]
    step = flat_step(objective)
    state = first_state(objective, bits)
    fed = {name: value.numpy() for name, value in state.items()}
    for number, batch in enumerate(batches()):
        scalars = {s.name: torch.tensor(s.at(number / 3, phase)) for s in objective.scalars}
        expected = step({**state, **batch, **scalars})
        arrays = {name: value.numpy() for name, value in {**batch, **scalars}.items()}
        found = dict(zip(names, session.run(None, {**fed, **arrays}), strict=True))
        for name, value in expected.items():
            error = np.abs(found[name] - value.detach().numpy()).max()
            assert error <= TOLERANCE, f"{name} differs by {error} at step {number}"
        state = {n: expected[NEXT + n].detach() for n in state}
        fed = {n: found[NEXT + n] for n in fed}


@pytest.mark.parametrize("phase", ["relax", "finetune"])
@pytest.mark.parametrize(
    "settings",
    [
        Settings(codebook="channel"),
        Settings(quantizer="lsq"),
        Settings(quantizer="parq"),
        Settings(finetune="rest"),
    ],
    ids=["channel", "lsq", "parq", "rest"],
)
def test_every_quantizer_that_a_board_may_run_has_the_same_graph(
    settings: Settings, phase: str
) -> None:
    objective = quped(SPEC, 1, {name: 1 + i for i, name in enumerate(CODED)}, settings)
    step, state = flat_step(objective), simulated_state(objective, INITIAL, {})
    built = build_program(objective, SPEC, BATCH, "train.onnx")
    session = onnxruntime.InferenceSession(built.graph.SerializeToString())
    names = [node.name for node in session.get_outputs()]
    for number, batch in enumerate(batches()):
        scalars = {s.name: torch.tensor(s.at(number / 3, phase)) for s in objective.scalars}
        expected = step({**state, **batch, **scalars})
        fed = {name: value.numpy() for name, value in {**state, **batch, **scalars}.items()}
        for name, found in zip(names, session.run(None, fed), strict=True):
            error = np.abs(found - expected[name].detach().numpy()).max()
            assert error <= TOLERANCE, f"{name} differs by {error} at step {number}"
        state = {n: expected[NEXT + n].detach() for n in state}


def test_padding_rows_change_nothing() -> None:
    objective = objectives_for(SPEC, a_plan(1, 2, 2), Settings())["federate"]
    state, step = first_state(objective, 2), flat_step(objective)
    scalars = {s.name: torch.tensor(s.at(0.5, "local")) for s in objective.scalars}
    short = batches()[-1]
    other = {**short, "image": short["image"].clone(), "label": short["label"].clone()}
    other["image"][2:] = -7.0
    other["label"][2:] = 0
    once, again = step({**state, **short, **scalars}), step({**state, **other, **scalars})
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_training_lowers_the_loss() -> None:
    objective = objectives_for(SPEC, a_plan(2, 4, 2), Settings(rate=0.05))["federate"]
    state, step = first_state(objective, 4), flat_step(objective)
    batch = batches()[0]
    scalars = {s.name: torch.tensor(s.at(0.5, "local")) for s in objective.scalars}
    losses = []
    for _ in range(15):
        result = step({**state, **batch, **scalars})
        losses.append(float(result[METRIC + "loss"]))
        state = {name: result[NEXT + name].detach() for name in state}
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("trained", ["weights", "rest"])
def test_fine_tuning_leaves_the_centers_alone(trained: Literal["weights", "rest"]) -> None:
    settings = Settings(finetune=trained)
    objective = objectives_for(SPEC, a_plan(1, 2, 1), settings)["personalize"]
    state = first_state(objective, 2)
    snap(state, objective.phases[1].enter)
    scalars = {s.name: torch.tensor(s.at(0.5, "finetune")) for s in objective.scalars}
    result = flat_step(objective)({**state, **batches()[0], **scalars})
    for name in state:
        quantized = f"centers/{name.removeprefix('personal/')}" in state
        kept = torch.equal(result[NEXT + name], state[name])
        frozen = name.startswith("centers/") or (quantized and trained == "rest")
        assert kept == frozen, name


def test_the_same_objective_lowers_to_the_same_bytes() -> None:
    objective = objectives_for(SPEC, a_plan(1, 2, 2), Settings())["federate"]
    once, again = (
        build_program(objective, SPEC, BATCH, "t").graph.SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert once == again


def test_graph_holds_only_the_default_domain() -> None:
    objective = objectives_for(SPEC, a_plan(1, 2, 2), Settings())["federate"]
    graph = build_program(objective, SPEC, BATCH, "t").graph
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 20)]
    assert {node.domain for node in graph.graph.node} == {""}


def test_inputs_and_outputs_are_those_of_the_contract() -> None:
    objective = objectives_for(SPEC, a_plan(1, 2, 2), Settings())["federate"]
    built = build_program(objective, SPEC, BATCH, "t")
    state = [tensor.name for tensor in built.contract.state]
    batch = [item.name for item in built.contract.batch]
    scalars = [scalar.name for scalar in built.contract.scalars]
    graph = built.graph.graph
    assert [value.name for value in graph.input] == [*state, *batch, *scalars]
    metrics = [METRIC + name for name in built.contract.metrics]
    assert [value.name for value in graph.output] == [*(NEXT + name for name in state), *metrics]


@pytest.mark.parametrize("trained", ["frozen", "lora", "ssf", "adapters", "parallel-adapters"])
def test_a_plan_of_a_trained_set_moves_it_and_holds_the_rest(trained: str) -> None:
    spec = holding(SPEC, trained)
    plan = replace(a_plan(2, 2, 1), trained=trained)
    state = objectives_for(spec, plan, Settings())["federate"].state
    shared = {t.source: t.shape for t in state if t.role == "shared"}
    frozen = {t.source: t.shape for t in state if t.role == "frozen"}
    assert shared == sent_shapes(spec, 2, trained)
    assert {**shared, **frozen} == tensor_shapes(spec, 2)


def test_a_plan_of_a_set_that_the_model_does_not_hold_is_refused() -> None:
    plan = replace(a_plan(2, 2, 1), trained="lora")
    with pytest.raises(ConfigError, match="the model holds 'no adapter'"):
        objectives_for(SPEC, plan, Settings())
    with pytest.raises(ConfigError, match="two models trains them in full, not 'lora'"):
        objectives_for(holding(SPEC, "lora"), replace(plan, models=2), Settings())


def test_an_operator_that_is_not_lowered_is_named() -> None:
    traced = trace(lambda values: {"y": torch.erfinv(values["x"])}, {"x": torch.zeros(2)})
    with pytest.raises(UnsupportedOperator, match="erfinv"):
        lower(traced, "graph")


def test_example_inputs_match_the_state() -> None:
    objective = objectives_for(SPEC, a_plan(1, 3, 1), Settings())["personalize"]
    example = example_inputs(objective, SPEC, BATCH)
    assert example["centers/blocks.0.attn.qkv.weight"].shape == (8,)
