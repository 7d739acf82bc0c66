"""Holder-wise weighted mean: each tensor moves by the mean delta of the devices that hold it.

    tensor += sum_i(w_i * delta_i) / sum_i(w_i)    over its holders i

Updates are folded one at a time, so a round needs the memory of one model whatever its cohort.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.aggregation.gathered import shapes_of
from reefleet.errors import AggregationError, EmptyRound, ShapeConflict
from reefleet.wire.packed import PackedFile

Tensors = Mapping[str, NDArray[np.float32]]

PIECE = 1 << 16  # values at a time, so that what is weighted stays in the processor's cache


@dataclass(slots=True, eq=False)
class HolderSums:
    """What has been folded: weighted sums of deltas and the weight of the holders, by tensor."""

    sums: dict[str, NDArray[np.float32]]
    weights: dict[str, float]
    updates: int = 0

    def save(self) -> dict[str, NDArray[Any]]:
        """The state as arrays, for a safetensors or npz file."""
        return {
            "updates": np.array([self.updates], np.int64),
            **{f"sum/{name}": value for name, value in self.sums.items()},
            **{f"weight/{name}": np.array([w], np.float64) for name, w in self.weights.items()},
        }

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]]) -> HolderSums:
        """Read what `save` gave; raises AggregationError where an array is missing."""
        names = [key.removeprefix("sum/") for key in arrays if key.startswith("sum/")]
        try:
            return cls(
                {name: np.array(arrays[f"sum/{name}"], np.float32) for name in names},
                {name: float(arrays[f"weight/{name}"][0]) for name in names},
                int(arrays["updates"][0]),
            )
        except (KeyError, IndexError) as error:
            msg = f"the saved aggregation state is incomplete: {error}"
            raise AggregationError(msg) from error


@dataclass(frozen=True, slots=True)
class HolderMean:
    """The aggregation rule; `fold` and `moves` use the memory of their state."""

    def init(self, model: Tensors) -> HolderSums:
        """Nothing folded yet, for updates to `model`."""
        sums = {name: np.zeros(shape, np.float32) for name, shape in shapes_of(model).items()}
        return HolderSums(sums, dict.fromkeys(sums, 0.0))

    def fold(self, state: HolderSums, update: Tensors, weight: float) -> HolderSums:
        """Add one device's deltas in place and return the state.

        Raises ShapeConflict naming a tensor that the model does not have in that shape, or
        AggregationError for a weight that is not positive; the state is then unchanged.
        """
        if not (math.isfinite(weight) and weight > 0):
            msg = f"an update cannot weigh {weight}; its weight must be positive"
            raise AggregationError(msg)
        for name, found in shapes_of(update).items():
            if name not in state.sums:
                msg = f"the update holds tensor {name!r}, which the model does not have"
                raise ShapeConflict(msg)
            if found != (shape := state.sums[name].shape):
                msg = f"tensor {name!r} has shape {found} in the update, {shape} in the model"
                raise ShapeConflict(msg)
        weighted = np.empty(PIECE, np.float32)
        for name, delta in _entries(update):
            _add(state.sums[name], delta, np.float32(weight), weighted)
            state.weights[name] += weight
        state.updates += 1
        return state

    def moves(self, state: HolderSums) -> dict[str, NDArray[np.float32]]:
        """How each tensor that somebody held moves, in the memory of `state`, which is spent.

        Raises EmptyRound where nothing was folded.
        """
        _require_updates(state)
        moved = {name: total for name, total in state.sums.items() if state.weights[name]}
        for name, total in moved.items():
            np.divide(total, np.float32(state.weights[name]), out=total)
        return moved

    def finish(self, state: HolderSums, model: Tensors) -> dict[str, NDArray[np.float32]]:
        """The new model; a tensor that nobody held is unchanged bit for bit.

        Raises EmptyRound where nothing was folded, ShapeConflict for another model than `init`'s.
        """
        _require_updates(state)
        if {n: v.shape for n, v in model.items()} != {n: v.shape for n, v in state.sums.items()}:
            msg = "the model is not the one that this aggregation was started for"
            raise ShapeConflict(msg)
        return {name: _moved(value, state, name) for name, value in model.items()}


def _entries(update: Tensors) -> Iterable[tuple[str, NDArray[np.float32]]]:
    # An update in a file was checked when it was accepted; its tensors pass by once.
    return update.passing() if isinstance(update, PackedFile) else update.items()


def _add(
    total: NDArray[np.float32],
    delta: NDArray[np.float32],
    weight: np.float32,
    weighted: NDArray[np.float32],
) -> None:
    """Add weight * delta to `total` in place, with `weighted` to work in."""
    flat, added = total.reshape(-1), np.asarray(delta, np.float32).reshape(-1)
    for begin in range(0, flat.size, PIECE):
        part = flat[begin : begin + PIECE]
        part += np.multiply(added[begin : begin + PIECE], weight, out=weighted[: part.size])


def _moved(value: NDArray[np.float32], state: HolderSums, name: str) -> NDArray[np.float32]:
    weight = state.weights[name]
    return value + state.sums[name] / np.float32(weight) if weight else value


def _require_updates(state: HolderSums) -> None:
    if not state.updates:
        msg = "no update was folded; the model stays as it is"
        raise EmptyRound(msg)
