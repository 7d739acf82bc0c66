"""Stages in onnxruntime: sessions of which each reads the arrays that the one before writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_client import runtime
from reefleet.errors import TensorMismatch, WireError
from reefleet.model import Shape

if TYPE_CHECKING:
    import onnxruntime

LOGITS = "logits"
CHAINED = "_out"  # a graph cannot name an output as it names an input
MAX_HANDED_ON = 1 << 24  # numbers that one stage may hand to the next

Values = NDArray[np.generic]


class OnnxChain:
    """Opened stages, shallow to deep; nothing is copied between them."""

    def __init__(self, image_shape: Shape, classes: int, threads: int) -> None:
        """Start a chain from images of that shape to logits of so many classes."""
        self._image = np.zeros(image_shape, np.float32)
        self._classes, self._threads = classes, threads
        self._written: dict[str, Values] = {"image": self._image}
        self._stages: list[_Stage] = []
        self._kept: list[Mapping[str, Values]] = []  # weights, which the sessions read from

    def add(self, file: str, graph: bytes, weights: Mapping[str, Values]) -> None:
        """Open the next stage; raises WireError where it does not go on from the one before."""
        session = runtime.open_session(graph, file, self._threads, weights, fuse=True)
        logits = np.zeros((1, self._classes), np.float32)
        stage = _Stage(file, session, self._written, logits)
        self._kept.append(weights)
        self._stages.append(stage)
        self._written = stage.handed_on

    def exits(self, image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Logits [1, classes] of one exit after the other; raises WireError.

        A stage runs when its exit is asked for. The next image overwrites the arrays.
        """
        self._image[...] = image
        for stage in self._stages:
            yield stage.run()


class _Stage:
    def __init__(
        self,
        file: str,
        session: onnxruntime.InferenceSession,
        read: Mapping[str, Values],
        logits: NDArray[np.float32],
    ) -> None:
        self._file, self._session, self._read, self._logits = file, session, read, logits
        wanted = sorted(node.name for node in session.get_inputs())
        if wanted != sorted(read):
            msg = f"the stage graph {file} has inputs {wanted}, it is given {sorted(read)}"
            raise TensorMismatch(msg)
        runtime.require_output(session, file, LOGITS, logits)
        self._binding = session.io_binding()
        for name, array in read.items():
            runtime.require_input(session, file, name, array)
            self._binding.bind_ortvalue_input(name, runtime.bind(array))
        self._binding.bind_ortvalue_output(LOGITS, runtime.bind(logits))
        self.handed_on: dict[str, Values] = {}
        for node in session.get_outputs():
            if node.name != LOGITS:
                array = self._array(node)
                self._binding.bind_ortvalue_output(node.name, runtime.bind(array))
                self.handed_on[node.name.removesuffix(CHAINED)] = array

    def run(self) -> NDArray[np.float32]:
        runtime.run_bound(self._session, self._binding, self._file, WireError)
        return self._logits

    def _array(self, node: onnxruntime.NodeArg) -> NDArray[np.float32]:
        shape = tuple(node.shape)
        sized = all(isinstance(extent, int) and extent > 0 for extent in shape)
        if not sized or math.prod(shape) > MAX_HANDED_ON or node.type != "tensor(float)":
            msg = f"output {node.name!r} of {self._file} is {node.type} {shape}, no modest float32"
            raise TensorMismatch(msg)
        return np.zeros(shape, np.float32)
