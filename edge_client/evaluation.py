"""Accuracy at every exit of the sub-model, through the bundle's batch graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_client import runtime
from reefleet.datasets.pack import Part, normalize
from reefleet.errors import TensorMismatch
from reefleet.model import ModelSpec, Preprocessing, tensor_shapes
from reefleet.wire.manifest import Predict

Arrays = Mapping[str, NDArray[np.float32]]


class Predictor:
    """The predict graph with its weight and image buffers."""

    def __init__(
        self, graph: bytes, predict: Predict, spec: ModelSpec, depth: int, threads: int
    ) -> None:
        """Open the graph; raises TensorMismatch where it disagrees with the manifest."""
        shapes = tensor_shapes(spec, depth)
        self._file = predict.file
        self._image = np.zeros((predict.batch, *spec.image_shape), np.float32)
        exits = len(spec.exits_within(depth))
        self._logits = np.zeros((predict.batch, exits, spec.classes), np.float32)
        self._session = runtime.open_session(graph, predict.file, threads)
        runtime.require_input(self._session, predict.file, "image", self._image)
        runtime.require_output(self._session, predict.file, "logits", self._logits)
        for name in predict.weights:
            # A stride of zero gives shape and type without the memory.
            expected = np.broadcast_to(np.float32(0), shapes[name])
            runtime.require_input(self._session, predict.file, name, expected)
        self._weights = predict.weights

    def logits(self, weights: Arrays, part: Part, pre: Preprocessing) -> NDArray[np.float32]:
        """Logits [N, E, classes] of all samples; raises TensorMismatch for a missing weight."""
        binding = self._session.io_binding()
        held = []
        for name in self._weights:
            if name not in weights:
                msg = f"the graph {self._file} wants the weight {name!r}, which is missing"
                raise TensorMismatch(msg)
            held.append(np.ascontiguousarray(weights[name], np.float32))
            binding.bind_ortvalue_input(name, runtime.bind(held[-1]))
        binding.bind_ortvalue_input("image", runtime.bind(self._image))
        binding.bind_ortvalue_output("logits", runtime.bind(self._logits))
        rows = len(self._image)
        logits = np.empty((len(part), *self._logits.shape[1:]), np.float32)
        for start in range(0, len(part), rows):
            images = part.images[start : start + rows]
            normalize(images, pre, self._image[: len(images)])
            runtime.run_bound(self._session, binding, self._file)
            logits[start : start + len(images)] = self._logits[: len(images)]
        return logits


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, ...]:
    """Share of right answers at each exit, from logits [N, E, classes]."""
    hits = logits.argmax(axis=2) == labels[:, None]
    return tuple(float(share) for share in hits.mean(axis=0))
