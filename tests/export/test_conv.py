"""The convolutional backbone as graphs: training steps and stages against eager torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from export.compile import compile_task
from export.lowering import lower
from export.parity import FLOAT_TOLERANCE, INT8_TOLERANCE, run_stages, torch_logits
from export.programs import NEXT, build_program, flat_step, objectives_for
from export.quantize import quantize
from export.stages import predict_graph, stage_graphs
from export.trace import trace
from reefleet.errors import UnsupportedOperator
from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective, Settings
from reefleet.learning.objectives.exits import Recipe, exits_objective
from reefleet.model import (
    ConvGeometry,
    ModelContract,
    ModelSpec,
    Preprocessing,
    quantized_tensors,
    state_shape,
    tensor_shapes,
)
from reefleet.plan import SubmodelPlan
from reefleet.simulation.training import first_state
from reefleet.wire.manifest_json import task_from_bytes
from reefleet.wire.tensors import EncodedTensor, Float32Tensor

# Odd and even maps, strides 1 and 2, a residual block and others, an exit between.
SPEC = ModelSpec(
    9, 1, 2, 16, 1, 3, 4, (1, 3), image_width=10, conv=ConvGeometry(6, (6, 8, 8), (1, 2, 2))
)
BATCH = 4
TOLERANCE = 1e-5  # float32 sums in another order, over the steps of one test
SETTINGS = Settings(rate=0.05, personal_rate=0.05, finetune_rate=0.05, momentum=0.9)
REE, HEADS = Network(SPEC), Network(SPEC, "heads")


def weights(network: Network = REE) -> dict[str, NDArray[np.float32]]:
    """Weights spread widely enough that each path through the network matters."""
    rng = np.random.default_rng(1)
    return {
        name: (value + 0.1 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in network.initial(0).items()
    }


def images(count: int = 20) -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=(count, *SPEC.image_shape)).astype(np.float32)


def a_plan(models: int, bits: int = 2) -> SubmodelPlan:
    return SubmodelPlan(3, bits, BATCH, 1, models, "float32")


OBJECTIVES = {
    "reefl": (objectives_for(SPEC, a_plan(1), SETTINGS)["federate"], REE, "local"),
    "reefl-quped": (objectives_for(SPEC, a_plan(2), SETTINGS)["federate"], REE, "local"),
    "quped": (objectives_for(SPEC, a_plan(1), SETTINGS)["personalize"], REE, "relax"),
    "heads": (exits_objective(Recipe("depthfl", HEADS, "all-pairs"), 3, 1, SETTINGS), HEADS, "l"),
    **{
        name: (exits_objective(Recipe(name, network), 3, 1, SETTINGS), network, "local")
        for name, network in (
            ("detached", replace(REE, modulation="detached")),
            ("lora", replace(REE, trained="lora", lora_rank=2)),
            ("adapters", replace(REE, trained="adapters", lora_rank=2)),
        )
    },
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_graph_equals_eager_torch_over_several_steps(name: str) -> None:
    objective, network, phase = OBJECTIVES[name]
    built = build_program(objective, SPEC, BATCH, "t")
    session = onnxruntime.InferenceSession(built.graph.SerializeToString())
    first = first_state(objective, weights(network), {})
    fed = {name: value.numpy() for name, value in first.items()}
    state = {name: torch.from_numpy(value.copy()) for name, value in fed.items()}
    names = [node.name for node in session.get_outputs()]
    generator = torch.Generator().manual_seed(5)
    for number in range(3):
        inputs = _inputs(objective, number, phase, generator)
        expected = flat_step(objective)({**state, **inputs})
        arrays = {name: value.numpy() for name, value in inputs.items()}
        found = dict(zip(names, session.run(None, {**fed, **arrays}), strict=True))
        for output, value in expected.items():
            error = np.abs(found[output] - value.detach().numpy()).max()
            assert error <= TOLERANCE, f"{output} differs by {error} at step {number}"
        moved = [entry for entry in state if NEXT + entry in expected]
        state |= {entry: expected[NEXT + entry].detach() for entry in moved}
        fed |= {entry: found[NEXT + entry] for entry in moved}


def _inputs(
    objective: Objective, number: int, phase: str, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    return {
        "image": torch.randn(BATCH, *SPEC.image_shape, generator=generator),
        "label": torch.randint(0, SPEC.classes, (BATCH,), generator=generator),
        "mask": (torch.arange(BATCH) < BATCH - number).float(),
        **{s.name: torch.tensor(s.at(number / 3, phase)) for s in objective.scalars},
    }


def plain() -> dict[str, EncodedTensor]:
    return {name: Float32Tensor(value) for name, value in weights().items()}


def relative_error(tensors: dict[str, EncodedTensor], *, quantized: bool) -> float:
    built = stage_graphs(SPEC, 3, quantized=quantized)
    graphs = {stage.file: graph.SerializeToString() for stage, graph in built}
    found = run_stages([stage for stage, _ in built], graphs, tensors, images())
    expected = torch_logits(tensors, SPEC, 3, images())
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_float_stages_equal_torch_at_every_exit() -> None:
    assert relative_error(plain(), quantized=False) <= FLOAT_TOLERANCE


@pytest.mark.parametrize("bits", [2, 8])
def test_integer_stages_stay_within_the_stated_tolerance(bits: int) -> None:
    assert relative_error(quantize(weights(), SPEC, 3, bits), quantized=True) <= INT8_TOLERANCE


def test_predict_graph_equals_torch_at_every_exit() -> None:
    session = onnxruntime.InferenceSession(predict_graph(SPEC, 3, 8).SerializeToString())
    (found,) = session.run(None, {"image": images(8), **weights()})
    expected = torch_logits(plain(), SPEC, 3, images(8))
    assert np.abs(found - expected).max() / np.abs(expected).max() <= FLOAT_TOLERANCE


def test_a_stage_hands_on_the_map_and_the_history() -> None:
    (_, first), (_, last) = stage_graphs(SPEC, 3, quantized=True)
    shapes = {
        value.name: tuple(extent.dim_value for extent in value.type.tensor_type.shape.dim)
        for value in last.graph.input
    }
    assert shapes == {"tokens": (1, *state_shape(SPEC, 1)), "history": (1, 2, SPEC.width)}
    assert [value.name for value in first.graph.output] == ["logits", "tokens_out", "history_out"]


def test_every_one_by_one_convolution_is_multiplied_as_integers() -> None:
    seen = set()
    for stage, graph in stage_graphs(SPEC, 3, quantized=True):
        forms = {entry.source: entry.form for entry in stage.initializers}
        seen |= {name for name, form in forms.items() if form in {"int8-transposed", "scale"}}
        integer = [node for node in graph.graph.node if node.op_type == "MatMulInteger"]
        assert len(integer) == 2 * (stage.exit_depth - (stage.exit_depth == 3))
    assert seen == set(quantized_tensors(SPEC))


def test_a_task_bundle_is_complete(tmp_path: Path) -> None:
    contract = ModelContract(
        SPEC, Preprocessing(9, 2, 0.5, 0.25, width=10), tuple(str(n) for n in range(4))
    )
    compile_task(contract, a_plan(1), tmp_path / "bundle", Settings())
    manifest = task_from_bytes((tmp_path / "bundle" / "manifest.json").read_bytes())
    assert ModelContract(manifest.model, manifest.preprocessing, manifest.labels) == contract
    assert manifest.predict.weights == tuple(tensor_shapes(SPEC, 3))


def test_the_gradient_of_a_dense_convolution_is_refused_by_name() -> None:
    def step(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        kernel = values["kernel"].detach().requires_grad_()
        (found,) = torch.autograd.grad(F.conv2d(values["image"], kernel).sum(), kernel)
        return {"gradient": found}

    example = {"image": torch.zeros(1, 2, 4, 4), "kernel": torch.zeros(3, 2, 3, 3)}
    with pytest.raises(UnsupportedOperator, match="convolution"):
        lower(trace(step, example), "dense")
