"""InclusiveFL's server rule: one mean a tier, private last blocks taught by the tier above.

InclusiveFL (KDD 2022) as ReeFL's released code runs it. With g = old - mean inside tier e:
private tensors of every tier but the deepest move by (1 - b) g + b m, where m is the mean of g over
the next tier's own group of blocks in the round before (0 where that tier was not sampled); other
tensors move by the mean of g over the tiers that hold them, weighted by their number of devices.
Blocks of a convolutional backbone may differ in shape; such tensors teach one another nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reefleet.aggregation.mean import HolderMean, HolderSums

Arrays = Mapping[str, NDArray[np.float32]]
Model = dict[str, NDArray[np.float32]]

MOMENTUM = 0.2  # b, the published value
_BLOCK = re.compile(r"^(?:tier\.\d+\.)?blocks\.(\d+)\.(.+)$")


@dataclass(frozen=True, slots=True)
class Tiers:
    """The rule for a fleet whose tiers keep `exits` blocks each, shallow to deep."""

    exits: tuple[int, ...]
    momentum: float = MOMENTUM

    def server_name(self, name: str, depth: int) -> str:
        """Where the model keeps tensor `name` of tier `depth`: its last block is its own."""
        last = depth != self.exits[-1] and name.startswith(f"blocks.{depth - 1}.")
        return f"tier.{depth}.{name}" if last else name

    def finish(
        self, sums: Mapping[int, HolderSums], model: Arrays, memory: Arrays
    ) -> tuple[Model, Model]:
        """The new model and the memory m, by tier, from the sums folded for each sampled tier."""
        moves = {
            depth: {
                name: model[name] - value
                for name, value in HolderMean().finish(state, model).items()
                if state.weights[name]
            }
            for depth, state in sums.items()
        }
        moved = dict(model)
        for name, old in model.items():
            tiers = [depth for depth in moves if name in moves[depth]]
            if not tiers:
                continue
            count = sum(sums[depth].updates for depth in tiers)
            mean = np.zeros_like(old)
            for depth in tiers:
                mean += moves[depth][name] * np.float32(sums[depth].updates / count)
            moved[name] = old - self._taught(name, mean, memory)
        kept: Model = {}
        for depth, move in moves.items():
            kept |= self._group_mean(depth, move)
        return moved, kept

    def _taught(self, name: str, move: NDArray[np.float32], memory: Arrays) -> NDArray[np.float32]:
        found = _BLOCK.match(name)
        if not name.startswith("tier.") or not found:
            return move
        depth = int(found.group(1)) + 1
        above = self.exits[self.exits.index(depth) + 1]
        lesson = memory.get(f"{above}/{found.group(2)}", np.zeros_like(move))
        if lesson.shape != move.shape:
            return move
        return np.asarray((1 - self.momentum) * move + self.momentum * lesson, np.float32)

    def _group_mean(self, depth: int, move: Arrays) -> Model:
        below = ([0, *self.exits])[self.exits.index(depth)]
        layers: dict[str, list[NDArray[np.float32]]] = {}
        for name, value in move.items():
            found = _BLOCK.match(name)
            if found and below <= int(found.group(1)) < depth:
                layers.setdefault(found.group(2), []).append(value)
        return {
            f"{depth}/{layer}": _mean(values)
            for layer, values in layers.items()
            if len({value.shape for value in values}) == 1
        }


def _mean(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.asarray(np.stack(values).mean(0), np.float32)
