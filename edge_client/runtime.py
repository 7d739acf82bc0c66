"""Sessions of onnxruntime, opened small and quiet; the only door to the runtime's wheel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import (
    OutOfMemory,
    ReefleetError,
    RuntimeUnavailable,
    TensorMismatch,
    TrainingError,
    WireError,
)

if TYPE_CHECKING:
    import onnxruntime

ELEMENTS = {
    "float32": "tensor(float)",
    "int64": "tensor(int64)",
    "uint8": "tensor(uint8)",
    "int8": "tensor(int8)",
}


def open_session(
    graph: bytes,
    label: str,
    threads: int = 1,
    weights: Mapping[str, NDArray[np.generic]] | None = None,
    *,
    fuse: bool = False,
) -> onnxruntime.InferenceSession:
    """A session over `graph`; `weights` fills initializers that the graph leaves out.

    `fuse` asks for every rewrite, which integer stages need to be fast; a training graph gains
    nothing from it and opens in twice the time. The caller keeps the weights' arrays alive, for
    the session reads from them. Raises WireError naming `label` where the runtime refuses.
    """
    ort = _runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings are about nodes, and nobody reads them here
    # Every session owns a pool; pools that spin fight the one session that runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fuse else levels.ORT_ENABLE_BASIC
    # The arena keeps the largest step's peak for ever; the heap gives it back.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except _failures() as error:
        msg = f"the runtime refuses the graph {label}: {_first_line(error)}"
        raise (OutOfMemory if _wants_memory(msg) else WireError)(msg) from error


def bind(array: NDArray[np.generic]) -> onnxruntime.OrtValue:
    """An OrtValue that reads and writes the array's own memory."""
    return _runtime().OrtValue.ortvalue_from_numpy(array)


def require_input(
    session: onnxruntime.InferenceSession, label: str, name: str, array: NDArray[np.generic]
) -> None:
    """Raise TensorMismatch unless the graph has the input `name` of the array's shape and type."""
    _require(session.get_inputs(), label, "input", name, array)


def require_output(
    session: onnxruntime.InferenceSession, label: str, name: str, array: NDArray[np.generic]
) -> None:
    """Raise TensorMismatch unless the graph has the output `name` of the array's shape and type."""
    _require(session.get_outputs(), label, "output", name, array)


def run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[np.generic]], label: str
) -> list[NDArray[np.generic]]:
    """All outputs of one run; raises WireError naming `label` where the runtime fails."""
    try:
        found: list[NDArray[np.generic]] = session.run(None, feeds)
    except _failures() as error:
        msg = f"the graph {label} failed to run: {_first_line(error)}"
        raise WireError(msg) from error
    return found


def run_bound(
    session: onnxruntime.InferenceSession,
    binding: onnxruntime.IOBinding,
    label: str,
    failure: type[ReefleetError] = TrainingError,
) -> None:
    """Run once with what is bound; raises `failure` or OutOfMemory, naming `label`."""
    try:
        session.run_with_iobinding(binding)
    except MemoryError as error:
        msg = f"the graph {label} ran out of memory"
        raise OutOfMemory(msg) from error
    except _failures() as error:
        msg = f"the graph {label} failed to run: {_first_line(error)}"
        raise (OutOfMemory if _wants_memory(msg) else failure)(msg) from error


def _wants_memory(text: str) -> bool:
    return "alloc" in text.lower()


def _require(
    nodes: list[onnxruntime.NodeArg], label: str, kind: str, name: str, array: NDArray[np.generic]
) -> None:
    found = next((node for node in nodes if node.name == name), None)
    if found is None:
        msg = f"the graph {label} has no {kind} {name!r}, which the manifest names"
        raise TensorMismatch(msg)
    shape = tuple(found.shape)
    if shape != array.shape or found.type != ELEMENTS.get(array.dtype.name):
        msg = (
            f"{kind} {name!r} of the graph {label} is {found.type} {shape}, "
            f"the manifest says {array.dtype.name} {array.shape}"
        )
        raise TensorMismatch(msg)


def _runtime() -> onnxruntime:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        msg = "running graphs needs onnxruntime; run: pip install 'reefleet[edge]'"
        raise RuntimeUnavailable(msg) from error
    return onnxruntime


def _failures() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    return (
        native.Fail,
        native.InvalidArgument,
        native.InvalidGraph,
        native.InvalidProtobuf,
        native.NoSuchFile,
        native.NotImplemented,
        native.RuntimeException,
        RuntimeError,
        ValueError,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
