"""Stages in LiteRT or the last tflite-runtime, for boards that have no onnxruntime."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_client.chain import CHAINED, LOGITS
from reefleet.errors import RuntimeUnavailable, TensorMismatch, WireError
from reefleet.model import Shape
from reefleet.native_output import without_notices
from reefleet.wire.manifest import stage_name

_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_HANDED_ON = frozenset({"history", "tokens"})
_FIRST, _LAST = frozenset({"image"}), frozenset({LOGITS})
_GIVEN = frozenset({LOGITS, *(f"{name}{CHAINED}" for name in _HANDED_ON)})

Values = NDArray[np.generic]
Names = frozenset[str]


class TfliteChain:
    """One file with its weights inside; its signatures are the stages, its threads are shared."""

    def __init__(self, file: str, graph: bytes, stages: int, classes: int, threads: int) -> None:
        """Open the file; raises WireError where the runtime refuses it or it holds no chain."""
        make = _interpreter()
        try:
            with without_notices():
                interpreter = make(model_content=graph, num_threads=threads)
                interpreter.allocate_tensors()
                names = [stage_name(position) for position in range(stages)]
                self._calls = [interpreter.get_signature_runner(name) for name in names]
        except (RuntimeError, ValueError) as error:
            msg = f"the runtime refuses {file}: {str(error).strip()[:300]}"
            raise WireError(msg) from error
        self._file = file
        for name, call in zip(names, self._calls, strict=True):
            inputs = _HANDED_ON if name != names[0] else _FIRST
            outputs = _GIVEN if name != names[-1] else _LAST
            _require_stage(f"{file}, {name}", call, inputs, outputs, (1, classes))

    def exits(self, image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Logits [1, classes] of one exit after the other; raises WireError.

        A stage runs when its exit is asked for.
        """
        feed: Mapping[str, Values] = {"image": image}
        for call in self._calls:
            try:
                found = call(**feed)
            except (RuntimeError, ValueError) as error:
                msg = f"{self._file} failed to run: {str(error).strip()[:300]}"
                raise WireError(msg) from error
            feed = {name.removesuffix(CHAINED): found[name] for name in found if name != LOGITS}
            yield found[LOGITS]


def _require_stage(label: str, call: Any, inputs: Names, outputs: Names, logits: Shape) -> None:
    """Raise TensorMismatch where a signature reads or gives something else."""
    for kind, wanted, found in (
        ("inputs", inputs, call.get_input_details()),
        ("outputs", outputs, call.get_output_details()),
    ):
        if found.keys() != wanted:
            msg = f"{label} has {kind} {sorted(found)}, {sorted(wanted)} were expected"
            raise TensorMismatch(msg)
    if (shape := tuple(int(n) for n in found[LOGITS]["shape"])) != logits:
        msg = f"{label} gives logits of shape {shape}, the manifest says {logits}"
        raise TensorMismatch(msg)


def _interpreter() -> Any:
    for name in _MODULES:
        with suppress(ModuleNotFoundError):
            return importlib.import_module(name).Interpreter
    msg = "answering from .tflite files needs ai-edge-litert; run: pip install 'reefleet[tflite]'"
    raise RuntimeUnavailable(msg)
