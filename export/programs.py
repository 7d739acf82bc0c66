"""Training programs: an objective traced and lowered, with the contract to run it by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.lowering import lower
from export.trace import Function, Named, trace
from reefleet.learning.objectives import Objective, Settings, quped, reefl, reefl_quped
from reefleet.model import ModelSpec
from reefleet.plan import SubmodelPlan
from reefleet.wire.manifest import BatchInput, Program

NEXT = "next."
METRIC = "metric."


@dataclass(frozen=True, slots=True)
class BuiltProgram:
    """A program's contract and its graph."""

    contract: Program
    graph: onnx.ModelProto


def objectives_for(spec: ModelSpec, plan: SubmodelPlan, settings: Settings) -> dict[str, Objective]:
    """The objectives of a plan: `federate` for the rounds, `personalize` for after them."""
    depth, bits, epochs = plan.exit_depth, plan.bits, plan.local_epochs
    federate = (
        reefl_quped(spec, depth, bits, epochs, settings)
        if plan.objective == "reefl-quped"
        else reefl(spec, depth, epochs, settings)
    )
    return {"federate": federate, "personalize": quped(spec, depth, bits, settings)}


def build_program(
    objective: Objective, spec: ModelSpec, batch_size: int, file: str
) -> BuiltProgram:
    """Trace one step of `objective` at a batch size and lower it; raises UnsupportedOperator."""
    example = example_inputs(objective, spec, batch_size)
    graph = lower(trace(flat_step(objective), example), objective.name)
    batch = tuple(
        BatchInput(name, tuple(value.shape), str(value.numpy().dtype))
        for name, value in example_batch(spec, batch_size).items()
    )
    contract = Program(
        file=file,
        objective=objective.name,
        state=objective.state,
        batch=batch,
        scalars=objective.scalars,
        metrics=objective.metrics,
        phases=objective.phases,
    )
    return BuiltProgram(contract, graph)


def example_batch(spec: ModelSpec, batch_size: int) -> dict[str, Tensor]:
    """A batch of the right shapes: images [B, C, S, S], labels [B], mask [B]."""
    side = spec.image_size
    return {
        "image": torch.zeros(batch_size, spec.channels, side, side),
        "label": torch.zeros(batch_size, dtype=torch.int64),
        "mask": torch.ones(batch_size),
    }


def example_inputs(objective: Objective, spec: ModelSpec, batch_size: int) -> dict[str, Tensor]:
    """State, batch and scalars of the right shapes, in the order of the graph's inputs."""
    state = {tensor.name: torch.zeros(tensor.shape) for tensor in objective.state}
    scalars = {scalar.name: torch.zeros(()) for scalar in objective.scalars}
    return {**state, **example_batch(spec, batch_size), **scalars}


def flat_step(objective: Objective) -> Function:
    """The step as one function from graph input names to graph output names."""
    carried = [tensor.name for tensor in objective.state]
    fed = [scalar.name for scalar in objective.scalars]

    def step(values: Named) -> dict[str, Tensor]:
        state, metrics = objective.step(
            {name: values[name] for name in carried},
            {name: values[name] for name in ("image", "label", "mask")},
            {name: values[name] for name in fed},
        )
        return {
            **{NEXT + name: state[name] for name in carried},
            **{METRIC + name: metrics[name] for name in objective.metrics},
        }

    return step


def first_values(objective: Objective) -> dict[str, NDArray[np.float32]]:
    """What init.safetensors holds: the first values of the state's `file` entries."""
    return {
        tensor.name: np.zeros(tensor.shape, np.float32)
        for tensor in objective.state
        if tensor.init == "file"
    }
