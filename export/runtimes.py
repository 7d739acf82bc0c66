"""The real runtimes, opened as a board opens them: onnxruntime, LiteRT, the last tflite-runtime.

A chain is one graph with all exits, or stages with one each, of which each reads what the one
before gave: its outputs lose their `_out`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import ExportError, RuntimeUnavailable
from reefleet.native_output import without_notices
from reefleet.wire.manifest import stage_name

Array = NDArray[Any]
Named = Mapping[str, Array]

CHAINED = "_out"  # a graph cannot name an output as it names an input
ONNX = "onnxruntime"
LITERT = "litert"
TENSORRT = "tensorrt"
_TFLITE_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


class Chain(Protocol):
    """Opened graphs."""

    def exits(self, image: Array) -> Iterator[Array]:
        """Logits [B, classes] of stage after stage, or [B, E, classes] of one graph.

        A stage runs when its exit is asked for. The next image overwrites the arrays.
        """


def open_chain(
    runtime: str, files: Sequence[bytes], threads: int = 1, weights: Sequence[Named] = ()
) -> Chain:
    """Open files in their runtime; a TensorRT file runs in onnxruntime, on the processor.

    `weights` fills what each graph leaves out. Raises RuntimeUnavailable, or ExportError where the
    runtime refuses a file.
    """
    if runtime == LITERT and len(files) > 1:
        msg = f"stages in LiteRT are one file, these are {len(files)}; build the bundle again"
        raise ExportError(msg)
    if runtime == LITERT:
        return _TfliteChain(files[0], threads)
    return _OnnxChain(files, threads, weights or [{}] * len(files))


def load(runtime: str) -> None:
    """Import a runtime without opening a file; raises RuntimeUnavailable."""
    if runtime == LITERT:
        _tflite_interpreter()
    else:
        _module("onnxruntime", "export")


def run_chain(chain: Chain, image: Array) -> NDArray[np.float32]:
    """Logits [B, E, classes] of one batch."""
    exits = list(chain.exits(image))
    found = np.stack(exits, 1) if exits[0].ndim == 2 else exits[0]
    return np.array(found, np.float32)


class _OnnxChain:
    """Sessions of which each reads the arrays that the one before writes."""

    def __init__(self, graphs: Sequence[bytes], threads: int, weights: Sequence[Named]) -> None:
        self._kept: list[Named] = [*weights]  # what sessions read from and write to
        self._ort = _module("onnxruntime", "export")
        self._image: Array = np.empty(0)
        self._stages: list[tuple[Any, Any, Array]] = []
        written: dict[str, Array] = {}
        for graph, given in zip(graphs, weights, strict=True):
            session = self._session(graph, threads, given)
            read, written = written, _arrays(session.get_outputs())
            if not self._stages:
                read = _arrays(session.get_inputs())
                (self._image,) = read.values()
            binding = session.io_binding()
            for name, array in read.items():
                binding.bind_ortvalue_input(name, self._bound(array))
            for name, array in written.items():
                binding.bind_ortvalue_output(name, self._bound(array))
            self._kept += [read, written]
            self._stages.append((session, binding, written["logits"]))
            written = {name.removesuffix(CHAINED): array for name, array in written.items()}
            del written["logits"]

    def exits(self, image: Array) -> Iterator[Array]:
        self._image[...] = image
        for session, binding, logits in self._stages:
            session.run_with_iobinding(binding)
            yield logits

    def _bound(self, array: Array) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(array)

    def _session(self, graph: bytes, threads: int, weights: Named) -> Any:
        ort = self._ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Sessions of a chain own a pool and an arena each: pools that spin fight the one that runs,
        # and arenas cost a chain 5 % against its single graph.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        values = [self._bound(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
        try:
            return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except (RuntimeError, ValueError, ort.capi.onnxruntime_pybind11_state.Fail) as error:
            msg = f"onnxruntime refuses the graph: {error}"
            raise ExportError(msg) from error


class _TfliteChain:
    """One interpreter, whichever is installed, LiteRT first; its signatures are the stages."""

    def __init__(self, file: bytes, threads: int) -> None:
        make = _tflite_interpreter()
        with without_notices():
            interpreter = make(model_content=file, num_threads=threads)
            interpreter.allocate_tensors()
            keys = list(interpreter.get_signature_list())
            if len(keys) > 1:
                keys = [stage_name(position) for position in range(len(keys))]
            self._calls = [interpreter.get_signature_runner(key) for key in keys]

    def exits(self, image: Array) -> Iterator[Array]:
        feed: Named = {"image": image}
        for call in self._calls:
            found = call(**feed)
            feed = {name.removesuffix(CHAINED): found[name] for name in found if name != "logits"}
            yield found["logits"]


def _arrays(nodes: Sequence[Any]) -> dict[str, Array]:
    for node in nodes:
        if not all(isinstance(extent, int) for extent in node.shape):
            msg = f"{node.name!r} of a graph has no fixed shape: {node.shape}"
            raise ExportError(msg)
    return {node.name: np.zeros(node.shape, np.float32) for node in nodes}


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
