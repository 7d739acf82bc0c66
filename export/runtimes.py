"""The real runtimes, opened as a board opens them: onnxruntime, LiteRT, the last tflite-runtime.

A runner maps named arrays to named arrays. Chained outputs lose their `_out`, so that one stage
feeds the next.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import ExportError, RuntimeUnavailable
from reefleet.native_output import without_notices

Array = NDArray[Any]
Named = Mapping[str, Array]
Runner = Callable[[Named], dict[str, Array]]

CHAINED = "_out"  # a graph cannot name an output as it names an input
ONNX = "onnxruntime"
LITERT = "litert"
TENSORRT = "tensorrt"
_TFLITE_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


def open_runner(
    runtime: str, graph: bytes, threads: int = 1, weights: Named | None = None
) -> Runner:
    """Open `graph` in its runtime; a TensorRT file runs in onnxruntime, on the processor.

    The runner keeps `weights` alive, which the session reads from. Raises RuntimeUnavailable, or
    ExportError where the runtime refuses the file.
    """
    if runtime == LITERT:
        return _open_tflite(graph, threads)
    return _open_onnx(graph, threads, weights or {})


def load(runtime: str) -> None:
    """Import a runtime without opening a file; raises RuntimeUnavailable."""
    if runtime == LITERT:
        _tflite_interpreter()
    else:
        _module("onnxruntime", "export")


def run_chain(runners: Sequence[Runner], image: Array) -> NDArray[np.float32]:
    """Logits [B, E, classes] of one batch through one graph or through a chain of stages."""
    feed: dict[str, Array] = {"image": image}
    exits = []
    for runner in runners:
        feed = runner(feed)
        exits.append(feed.pop("logits"))
    found = np.stack(exits, 1) if exits[0].ndim == 2 else exits[0]
    return np.asarray(found, np.float32)


def _open_onnx(graph: bytes, threads: int, weights: Named) -> Runner:
    ort = _module("onnxruntime", "export")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Sessions of a chain own a pool and an arena each: pools that spin fight the one that runs, and
    # arenas cost a chain 5 % against its single graph.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    options.add_external_initializers(list(weights), values)
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError, ort.capi.onnxruntime_pybind11_state.Fail) as error:
        msg = f"onnxruntime refuses the graph: {error}"
        raise ExportError(msg) from error
    names = [node.name.removesuffix(CHAINED) for node in session.get_outputs()]
    kept = (session, weights)

    def run(feed: Named) -> dict[str, Array]:
        return dict(zip(names, kept[0].run(None, dict(feed)), strict=True))

    return run


def _open_tflite(graph: bytes, threads: int) -> Runner:
    """Whichever interpreter of TFLite files is installed, LiteRT first."""
    make = _tflite_interpreter()
    with without_notices():
        interpreter = make(model_content=graph, num_threads=threads)
        interpreter.allocate_tensors()
        (key,) = interpreter.get_signature_list()
        call = interpreter.get_signature_runner(key)

    def run(feed: Named) -> dict[str, Array]:
        return {name.removesuffix(CHAINED): value for name, value in call(**feed).items()}

    return run


def _tflite_interpreter() -> Any:
    for name in _TFLITE_MODULES:
        with suppress(ModuleNotFoundError):
            return importlib.import_module(name).Interpreter
    msg = "running .tflite files needs ai-edge-litert; run: pip install 'reefleet[export]'"
    raise RuntimeUnavailable(msg)


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        msg = f"this needs {name}; run: pip install 'reefleet[{extra}]'"
        raise RuntimeUnavailable(msg) from error
