"""Stages in LiteRT or the last tflite-runtime, for boards that have no onnxruntime."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import RuntimeUnavailable, TensorMismatch, WireError
from reefleet.native_output import without_notices

CHAINED = "_out"

_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")

Values = NDArray[np.generic]


class TfliteStage:
    """One stage file with its weights inside."""

    def __init__(self, file: str, graph: bytes, threads: int) -> None:
        """Open the file; raises WireError where the runtime refuses it or it is no stage."""
        make = _interpreter()
        try:
            with without_notices():
                interpreter = make(model_content=graph, num_threads=threads)
                interpreter.allocate_tensors()
                (key,) = interpreter.get_signature_list()
                self._call = interpreter.get_signature_runner(key)
        except (RuntimeError, ValueError) as error:
            msg = f"the runtime refuses {file}: {str(error).strip()[:300]}"
            raise WireError(msg) from error
        self._file = file
        self._inputs = sorted(self._call.get_input_details())
        if self._inputs not in (["image"], ["history", "tokens"]):
            msg = f"the stage file {file} has inputs {self._inputs}"
            raise TensorMismatch(msg)
        if "logits" not in self._call.get_output_details():
            msg = f"the stage file {file} has no output 'logits'"
            raise TensorMismatch(msg)

    def run(self, values: Mapping[str, Values]) -> dict[str, Values]:
        """Outputs of this stage from those of the one before; raises WireError."""
        if missing := [name for name in self._inputs if name not in values]:
            msg = f"the stage before {self._file} gives no {missing[0]!r}"
            raise WireError(msg)
        try:
            found = self._call(**{name: values[name] for name in self._inputs})
        except (RuntimeError, ValueError) as error:
            msg = f"{self._file} failed to run: {str(error).strip()[:300]}"
            raise WireError(msg) from error
        return {name.removesuffix(CHAINED): value for name, value in found.items()}


def _interpreter() -> Any:
    for name in _MODULES:
        with suppress(ModuleNotFoundError):
            return importlib.import_module(name).Interpreter
    msg = "answering from .tflite files needs ai-edge-litert; run: pip install 'reefleet[tflite]'"
    raise RuntimeUnavailable(msg)
