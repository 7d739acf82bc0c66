"""Rules that a minority of bad updates cannot move far: trimmed mean and median by coordinate.

Yin et al., ICML 2018, definitions 1 and 2, by holder: each coordinate is ordered among the devices
that hold its tensor. Every device counts once, whatever number of samples it claims.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reefleet.aggregation.gathered import BLOCK_BYTES, Gathered, Opened, Tensors, blocks, shapes_of

Model = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """The mean without the lowest and highest `trim` of the values, rounded down; 0.5: the median.

    Memory: see `reefleet.aggregation.gathered`.
    """

    trim: float = 0.1
    block_bytes: int = BLOCK_BYTES

    def init(self, model: Tensors) -> Gathered:
        """Nothing folded yet, for updates to `model`."""
        return Gathered(shapes_of(model))

    def fold(self, state: Gathered, update: Opened, _weight: float = 1.0) -> Gathered:
        """Take one update; raises ShapeConflict where it is of another model."""
        state.add(update)
        return state

    def moves(self, state: Gathered) -> Model:
        """How each tensor that somebody held moves; raises EmptyRound where nothing was folded."""
        state.require_updates()
        moves = {}
        for name, shape in state.shapes.items():
            if holders := state.holders(name):
                move = np.empty(shape, np.float32)
                for place, block in blocks(holders, name, shape, self.block_bytes):
                    move.reshape(-1)[place] = self._center(block)
                moves[name] = move
        return moves

    def finish(self, state: Gathered, model: Tensors) -> Model:
        """The new model; a tensor that nobody held is unchanged bit for bit."""
        moves = self.moves(state)
        return {n: value + moves[n] if n in moves else value for n, value in model.items()}

    def _center(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        block.sort(axis=0)
        count = len(block)
        # Of an even number the middle two are left, of an odd number the middle one.
        cut = min(int(self.trim * count + 1e-9), (count - 1) // 2)
        return np.asarray(block[cut : count - cut].mean(axis=0, dtype=np.float64), np.float32)


def median(block_bytes: int = BLOCK_BYTES) -> TrimmedMean:
    """The median by coordinate."""
    return TrimmedMean(0.5, block_bytes)
