"""Krum and Multi-Krum: only updates that lie close to many others count.

Blanchard et al., NeurIPS 2017, section 4: an update's score is the sum of the squared distances to
its n - f - 2 nearest, and the `keep` updates of the least scores are averaged. By holder: tensors
that the same devices hold are judged together, each such group among its own holders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reefleet.aggregation.gathered import BLOCK_BYTES, Gathered, Opened, Tensors, blocks, shapes_of

Model = dict[str, NDArray[np.float32]]

LEAST = 3  # of two nobody can say which is bad


@dataclass(frozen=True, slots=True)
class Krum:
    """`bad_share` of the holders may be bad (f, rounded down); `keep` 0 keeps all the others.

    Fewer than three holders are averaged. Memory: see `reefleet.aggregation.gathered`, a second
    block, and one number for each pair of holders.
    """

    bad_share: float = 0.2
    keep: int = 0
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
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in state.shapes:
            keys = tuple(update.key for update in state.holders(name))
            if keys:
                groups.setdefault(keys, []).append(name)
        moves: Model = {}
        for names in groups.values():
            moves |= self._group(state, names)
        return moves

    def finish(self, state: Gathered, model: Tensors) -> Model:
        """The new model; a tensor that nobody held is unchanged bit for bit."""
        moves = self.moves(state)
        return {n: value + moves[n] if n in moves else value for n, value in model.items()}

    def _group(self, state: Gathered, names: list[str]) -> Model:
        holders = state.holders(names[0])
        chosen = holders
        if len(holders) >= LEAST:
            distances = np.zeros((len(holders), len(holders)))
            for name in names:
                for _, block in blocks(holders, name, state.shapes[name], self.block_bytes):
                    distances += _distances(block)
            chosen = [holders[row] for row in self._best(distances)]
        return {name: _mean(chosen, name) for name in names}

    def _best(self, distances: NDArray[np.float64]) -> list[int]:
        count = len(distances)
        bad = int(self.bad_share * count + 1e-9)
        near = max(1, count - bad - 2)
        others = np.sort(distances + np.diag(np.full(count, np.inf)), axis=1)
        scores = others[:, :near].sum(axis=1)
        keep = min(self.keep or count - bad, count)
        return sorted(np.argsort(scores, kind="stable")[:keep].tolist())


def _distances(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared distances of the rows, one row against all at a time."""
    result = np.empty((len(block), len(block)))
    for row, values in enumerate(block):
        apart = block - values
        result[row] = np.einsum("ij,ij->i", apart, apart, dtype=np.float64)
    return result


def _mean(chosen: list[Opened], name: str) -> NDArray[np.float32]:
    total = chosen[0][name].astype(np.float64)
    for update in chosen[1:]:
        total += update[name]
    return np.asarray(total / len(chosen), np.float32)
