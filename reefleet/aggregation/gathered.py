"""The state of rules that need all updates of a round at once: which they are, not what they hold.

Memory rule: an update is opened, never decoded whole. Values are looked at tensor by tensor and
block by block: one block of all holders (BLOCK_BYTES), one decoded tensor beside it, the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import AggregationError, EmptyRound, ShapeConflict
from reefleet.wire.packed import PackedFile

Shape = tuple[int, ...]
Tensors = Mapping[str, NDArray[np.float32]]

BLOCK_BYTES = 64 << 20


class Opened(Protocol):
    """An update whose tensors are decoded one at a time."""

    @property
    def key(self) -> str:
        """Names the update for ever."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """What it holds."""

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded now."""


@dataclass(slots=True, eq=False)
class Gathered:
    """The updates so far, and the shapes of the model that they move."""

    shapes: dict[str, Shape]
    updates: list[Opened] = field(default_factory=list)

    def add(self, update: Opened) -> None:
        """Take an update; raises ShapeConflict naming a tensor that the model does not have."""
        for name, shape in update.shapes.items():
            if self.shapes.get(name) != tuple(shape):
                msg = f"tensor {name!r} of shape {tuple(shape)} is no tensor of the model"
                raise ShapeConflict(msg)
        self.updates.append(update)

    def holders(self, name: str) -> list[Opened]:
        """Who holds a tensor, by key, so that results do not depend on who came first."""
        return sorted((u for u in self.updates if name in u.shapes), key=lambda u: u.key)

    def require_updates(self) -> None:
        """Raise EmptyRound where nothing was folded."""
        if not self.updates:
            msg = "no update was folded; the model stays as it is"
            raise EmptyRound(msg)

    def save(self) -> dict[str, NDArray[Any]]:
        """The state as arrays, for a safetensors or npz file."""
        keys = "\n".join(update.key for update in self.updates)
        return {"keys": np.frombuffer(keys.encode(), np.uint8)}

    @classmethod
    def load(
        cls, arrays: Mapping[str, NDArray[Any]], model: Tensors, find: Callable[[str], Opened]
    ) -> Gathered:
        """Read what `save` gave, opening each update by its key; raises AggregationError."""
        if "keys" not in arrays:
            msg = "the saved aggregation state is incomplete: 'keys'"
            raise AggregationError(msg)
        state = cls(shapes_of(model))
        for key in arrays["keys"].tobytes().decode().splitlines():
            state.add(find(key))
        return state


def shapes_of(model: Tensors) -> dict[str, Shape]:
    """Shapes by name."""
    if isinstance(model, PackedFile):
        return dict(model.shapes)  # no tensor is decoded for it
    return {name: value.shape for name, value in model.items()}


def blocks(
    holders: list[Opened], name: str, shape: Shape, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Where a block lies in the flat tensor, and its values [holders, n]; yours to change."""
    count = math.prod(shape)
    width = max(1, block_bytes // (4 * len(holders)))
    for start in range(0, count, width):
        place = slice(start, min(start + width, count))
        block = np.empty((len(holders), place.stop - start), np.float32)
        for row, update in enumerate(holders):
            block[row] = update[name].reshape(-1)[place]
        yield place, block
