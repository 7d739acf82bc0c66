"""Shared models by version: packed float32 blobs, loaded whole or cut to a sub-model's tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.faults import point
from coordinator.records import Artifact, Cut, Update
from coordinator.store import Store
from reefleet.blobs import BlobStore
from reefleet.errors import StoreError
from reefleet.geometry.trained import FULL
from reefleet.model import ModelSpec, Shape, sent_shapes, tensor_shapes
from reefleet.wire.packed import PackedFile
from reefleet.wire.tensors import Float32Tensor, packed_parts, unpack_tensors

Tensors = Mapping[str, NDArray[np.float32]]
Model = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Versions:
    """The models of one run, kept in `store` and `blobs`; devices send its `trained` set."""

    store: Store
    blobs: BlobStore
    spec: ModelSpec
    trained: str = FULL

    def keep(self, model: Tensors) -> Artifact:
        """Store a model's blob; it is no version before the store says so."""
        parts = packed_parts({name: Float32Tensor(value) for name, value in model.items()})
        return Artifact(self.blobs.put(*parts), sum(map(len, parts)))

    def load(self, number: int) -> PackedFile:
        """A version's tensors, each read when it is asked for; raises StoreError, WireError."""
        if (version := self.store.version(number)) is None:
            msg = f"there is no version {number} of the shared model"
            raise StoreError(msg)
        if version.is_retired:
            msg = f"version {number} of the shared model was retired and is no longer kept"
            raise StoreError(msg)
        path = self.blobs.checked(version.artifact.sha256)
        return PackedFile(path, f"version {number}", tensor_shapes(self.spec))

    def load_memory(self, number: int) -> Model:
        """What the server optimizer remembers with a version; empty where it remembers nothing."""
        version = self.store.version(number)
        if version is None or version.optimizer is None:
            return {}
        data = self.blobs.read(version.optimizer.sha256)
        # Two moments, of float32 each, of every tensor.
        bound = 8 * sum(math.prod(shape) for shape in tensor_shapes(self.spec).values())
        return {name: tensor.decode() for name, tensor in unpack_tensors(data, bound).items()}

    def expected(self, update: Update) -> Mapping[str, Shape]:
        """Names and shapes of an accepted update."""
        return self.sent(update.depth)

    def sent(self, depth: int) -> Mapping[str, Shape]:
        """Names and shapes of what a device of this depth sends."""
        return sent_shapes(self.spec, depth, self.trained)

    def cut(self, number: int, depth: int, model: Tensors | None = None) -> Cut:
        """The packed weights that a sub-model of `depth` blocks holds; cut once, then kept.

        `model` is the version's tensors, where the caller has them at hand.
        """
        if found := self.store.cut(number, depth):
            return found
        model = self.load(number) if model is None else model
        held = {name: model[name] for name in tensor_shapes(self.spec, depth)}
        cut = Cut(number, depth, self._artifact(number, depth, held), norm(held))
        point("cut.before-commit")
        self.store.add_cut(cut)
        return cut

    def _artifact(self, number: int, depth: int, held: Tensors) -> Artifact:
        version = self.store.version(number)
        if depth == self.spec.depth and version:
            return version.artifact  # the same tensors, packed already
        return self.keep(held)


def norm(values: Tensors) -> float:
    """Euclidean norm over all tensors; infinite where float32 cannot hold a tensor's square."""
    return math.sqrt(sum(float(np.vdot(value, value)) for value in values.values()))
