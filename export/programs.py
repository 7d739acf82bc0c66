"""Training programs: an objective traced and lowered, with the contract to run it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.lowering import lower
from export.trace import Function, Named, trace
from reefleet.errors import ConfigError
from reefleet.geometry.trained import FROZEN as FROZEN_SET
from reefleet.geometry.trained import FULL, require_set
from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective, Settings, quped, reefl, reefl_quped
from reefleet.learning.objectives.exits import Recipe, exits_objective
from reefleet.learning.ree import Modulation
from reefleet.model import ModelSpec, quantized_tensors
from reefleet.plan import SubmodelPlan, TrainedSet
from reefleet.wire.manifest import FROZEN, BatchInput, Program

NEXT = "next."
METRIC = "metric."


@dataclass(frozen=True, slots=True)
class BuiltProgram:
    """A program's contract and its graph."""

    contract: Program
    graph: onnx.ModelProto


def objectives_for(spec: ModelSpec, plan: SubmodelPlan, settings: Settings) -> dict[str, Objective]:
    """The objectives of a plan: `federate` for the rounds, `personalize` for after them."""
    depth, epochs = plan.exit_depth, plan.local_epochs
    bits = plan.widths(quantized_tensors(spec, depth))
    if plan.models > 1 and plan.trained != FULL:
        msg = f"a plan of two models trains them in full, not {plan.trained!r}"
        raise ConfigError(msg)
    federate = (
        reefl_quped(spec, depth, bits, epochs, settings)
        if plan.objective == "reefl-quped"
        else _shared_alone(spec, plan, settings)
    )
    return {"federate": federate, "personalize": quped(spec, depth, bits, settings)}


def _shared_alone(spec: ModelSpec, plan: SubmodelPlan, settings: Settings) -> Objective:
    """The shared model alone; what the trained set leaves out is held, neither moved nor sent."""
    depth, epochs = plan.exit_depth, plan.local_epochs
    if plan.trained == FULL:
        return reefl(spec, depth, epochs, settings)
    require_set(spec, plan.trained)
    # A frozen backbone needs no backward pass unless Ree's gradient is to reach back through it.
    modulation: Modulation = "detached" if plan.trained == FROZEN_SET else "on"
    network = Network(spec, "ree", modulation, cast("TrainedSet", plan.trained))
    return exits_objective(Recipe("reefl", network), depth, epochs, settings)


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
    """A batch of the right shapes: images [B, C, H, W], labels [B], mask [B]."""
    return {
        "image": torch.zeros(batch_size, *spec.image_shape),
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
    moving = [tensor.name for tensor in objective.state if tensor.role != FROZEN]
    fed = [scalar.name for scalar in objective.scalars]

    def step(values: Named) -> dict[str, Tensor]:
        state, metrics = objective.step(
            {name: values[name] for name in carried},
            {name: values[name] for name in ("image", "label", "mask")},
            {name: values[name] for name in fed},
        )
        return {
            **{NEXT + name: state[name] for name in moving},
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
