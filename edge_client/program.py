"""A training program held resident: state in two sets of buffers that swap after every step.

One set is bound as the graph's inputs, the other as its outputs; the next step binds them the
other way round. No state is copied, no buffer is made while training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_client import runtime
from reefleet.datasets.pack import IMAGE_AXES
from reefleet.errors import NonFiniteUpdate, TensorMismatch, WireError
from reefleet.wire.manifest import FROZEN, Program

if TYPE_CHECKING:
    import onnxruntime

NEXT = "next."
METRIC = "metric."
BATCH_INPUTS = {"image": "float32", "label": "int64", "mask": "float32"}

State = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Buffers that every step reads; a row with mask 0 is padding."""

    image: NDArray[np.float32]  # B C H W
    label: NDArray[np.int64]  # B
    mask: NDArray[np.float32]  # B

    @property
    def by_name(self) -> dict[str, NDArray[np.generic]]:
        """The buffers by the names of the graph's inputs."""
        return {"image": self.image, "label": self.label, "mask": self.mask}


class ResidentProgram:
    """One step graph, its state and its batch buffers; lives as long as its bundle is in use."""

    def __init__(self, program: Program, graph: bytes, threads: int, max_state_bytes: int) -> None:
        """Open the graph and take memory for state and batch.

        Raises WireError where the state is over the bound, TensorMismatch where graph and manifest
        disagree.
        """
        _require_modest(program, max_state_bytes)
        self.program = program
        self.batch = _batch_buffers(program)
        self._scalars = {item.name: np.zeros((), np.float32) for item in program.scalars}
        self._sets, self._moving = _state_sets(program)
        self._live = 0
        self._session = runtime.open_session(graph, program.file, threads)
        self._metrics = self._metric_buffers()
        self._require_agreement()
        self._bindings = (self._bound(0), self._bound(1))

    @property
    def batch_size(self) -> int:
        """Rows of a batch, padding included."""
        return len(self.batch.mask)

    @property
    def state(self) -> dict[str, NDArray[np.float32]]:
        """The live state; the arrays are the buffers themselves, so writing changes the state."""
        return self._sets[self._live]

    @property
    def metrics(self) -> dict[str, NDArray[np.float32]]:
        """Metrics of the last step; the arrays are overwritten by the next one."""
        return self._metrics

    def load(self, state: State) -> None:
        """Copy a first state in; raises TensorMismatch naming a tensor that is missing or odd."""
        for name, buffer in self.state.items():
            value = state.get(name)
            if value is None or value.shape != buffer.shape:
                found = "missing" if value is None else f"of shape {value.shape}"
                msg = f"the first state {name!r} is {found}; the program needs {buffer.shape}"
                raise TensorMismatch(msg)
            buffer[...] = value

    def step(self, scalars: Mapping[str, float]) -> None:
        """One step on what the batch buffers hold; raises TrainingError where it cannot run."""
        for name, buffer in self._scalars.items():
            buffer[...] = scalars[name]
        runtime.run_bound(self._session, self._bindings[self._live], self.program.file)
        self._live = 1 - self._live

    def require_finite(self) -> None:
        """Raise NonFiniteUpdate naming a state tensor that holds NaN or infinity."""
        for name, values in self.state.items():
            if not np.isfinite(values).all():
                msg = f"training diverged: {name} is no longer finite; the update is not offered"
                raise NonFiniteUpdate(msg)

    def _bound(self, live: int) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        for name, array in {**self._sets[live], **self._fed}.items():
            binding.bind_ortvalue_input(name, runtime.bind(array))
        for name in self._moving:
            binding.bind_ortvalue_output(NEXT + name, runtime.bind(self._sets[1 - live][name]))
        for name, metric in self._metrics.items():
            binding.bind_ortvalue_output(METRIC + name, runtime.bind(metric))
        return binding

    @property
    def _fed(self) -> dict[str, NDArray[np.generic]]:
        return {**self.batch.by_name, **self._scalars}

    def _metric_buffers(self) -> dict[str, NDArray[np.float32]]:
        shapes = {node.name: node.shape for node in self._session.get_outputs()}
        buffers = {}
        for name in self.program.metrics:
            shape = shapes.get(METRIC + name, [None])
            if not all(isinstance(extent, int) for extent in shape):
                msg = f"the graph {self.program.file} has no metric {name!r} of a fixed shape"
                raise TensorMismatch(msg)
            buffers[name] = np.zeros(tuple(shape), np.float32)
        return buffers

    def _require_agreement(self) -> None:
        session, file = self._session, self.program.file
        for name, state in self._sets[0].items():
            runtime.require_input(session, file, name, state)
            if name in self._moving:
                runtime.require_output(session, file, NEXT + name, state)
        for name, array in self._fed.items():
            runtime.require_input(session, file, name, array)
        known = {*self._sets[0], *self._fed}
        if unknown := sorted({node.name for node in session.get_inputs()} - known):
            msg = f"the graph {file} has an input {unknown[0]!r} that the manifest does not name"
            raise TensorMismatch(msg)


def _state_sets(
    program: Program,
) -> tuple[tuple[dict[str, NDArray[np.float32]], ...], frozenset[str]]:
    """Two sets of buffers that share what no step changes, and the names of the rest."""
    frozen = {i.name: np.zeros(i.shape, np.float32) for i in program.state if i.role == FROZEN}
    moving = [item for item in program.state if item.role != FROZEN]
    sets = tuple(
        {**frozen, **{item.name: np.zeros(item.shape, np.float32) for item in moving}}
        for _ in range(2)
    )
    return sets, frozenset(item.name for item in moving)


def _require_modest(program: Program, max_state_bytes: int) -> None:
    state, batch = [item.shape for item in program.state], [item.shape for item in program.batch]
    if any(extent < 0 for shape in (*state, *batch) for extent in shape):
        msg = f"the program {program.file} names a tensor of negative extent"
        raise WireError(msg)
    needed = 8 * sum(math.prod(shape) for shape in (*state, *batch))
    if needed > max_state_bytes:
        msg = f"the program {program.file} needs {needed} bytes of state, over {max_state_bytes}"
        raise WireError(msg)
    if {item.name: item.dtype for item in program.batch} != BATCH_INPUTS:
        msg = f"the program {program.file} wants batch inputs other than {sorted(BATCH_INPUTS)}"
        raise WireError(msg)
    shapes = {item.name: item.shape for item in program.batch}
    rows = shapes["mask"]
    sound = len(rows) == 1 and rows[0] > 0 and shapes["label"] == rows
    if not sound or len(shapes["image"]) != IMAGE_AXES or shapes["image"][:1] != rows:
        msg = f"the batch inputs of {program.file} have shapes that do not go together: {shapes}"
        raise WireError(msg)


def _batch_buffers(program: Program) -> Batch:
    shapes = {item.name: item.shape for item in program.batch}
    return Batch(
        np.zeros(shapes["image"], np.float32),
        np.zeros(shapes["label"], np.int64),
        np.zeros(shapes["mask"], np.float32),
    )
