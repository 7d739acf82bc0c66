"""Server optimizers: the mean move of a round is a gradient, the model follows it with memory.

FedAvgM (Hsu et al. 2019, section 4.3); FedAdam, FedYogi (Reddi et al., ICLR 2021, algorithm 2,
which corrects no bias). By holder: a tensor that nobody held keeps its value and its moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import ShapeConflict
from reefleet.settings import within

Tensors = Mapping[str, NDArray[np.float32]]
Model = dict[str, NDArray[np.float32]]
Name = Literal["sgd", "fedavgm", "fedadam", "fedyogi"]


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """How a model moves. `sgd` at rate 1 is plain averaging, bit for bit.

    `momentum` is the first decay (beta 1), `decay` that of the squares (beta 2), `adaptivity` what
    keeps a step finite (tau); only fedadam and fedyogi use the last two.
    """

    name: Name = "sgd"
    rate: float = within(1.0, 1e-9, 1e3)
    momentum: float = within(0.9, 0.0, 0.9999)
    decay: float = within(0.99, 0.0, 0.999999)
    adaptivity: float = within(1e-3, 1e-12, 1e3)

    def step(self, model: Tensors, moves: Tensors, memory: Tensors) -> tuple[Model, Model]:
        """The new model and memory; `moves` holds the tensors that somebody held.

        `memory` is what the last step gave, empty at first; what another optimizer left in it is
        dropped. The memory of `moves` is used, other arguments are left alone. Raises
        ShapeConflict for a tensor of another model.
        """
        moved, kept = {}, dict(self._own(memory))
        for name, value in model.items():  # perhaps read from a file just now
            move = moves.get(name)
            if move is not None and move.shape != value.shape:
                raise _of_another_model(name, move)
            moved[name] = value if move is None else self._moved(name, value, move, kept)
        for name in moves.keys() - moved.keys():
            raise _of_another_model(name, moves[name])
        return moved, kept

    def _moved(
        self, name: str, value: NDArray[np.float32], move: NDArray[np.float32], kept: Model
    ) -> NDArray[np.float32]:
        if self.name == "sgd":
            if self.rate != 1:
                np.multiply(move, np.float32(self.rate), out=move)
            return np.add(value, move, out=move)
        first, second = f"{self.name}/m/{name}", f"{self.name}/v/{name}"
        m = kept.get(first, np.zeros_like(move))
        if self.name == "fedavgm":
            kept[first] = np.float32(self.momentum) * m + move
            return np.asarray(value + np.float32(self.rate) * kept[first], np.float32)
        kept[first] = np.float32(self.momentum) * m + np.float32(1 - self.momentum) * move
        floor = np.full_like(move, self.adaptivity**2)
        kept[second] = self._squares(kept.get(second, floor), np.square(move))
        step = kept[first] / (np.sqrt(kept[second]) + np.float32(self.adaptivity))
        return np.asarray(value + np.float32(self.rate) * step, np.float32)

    def _squares(self, v: NDArray[np.float32], square: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.float32(1 - self.decay)
        if self.name == "fedadam":
            return np.asarray(np.float32(self.decay) * v + share * square, np.float32)
        return np.asarray(v - share * square * np.sign(v - square), np.float32)

    def _own(self, memory: Tensors) -> Tensors:
        return {n: value for n, value in memory.items() if n.startswith(f"{self.name}/")}


def _of_another_model(name: str, move: NDArray[np.float32]) -> ShapeConflict:
    msg = f"the move of tensor {name!r} of shape {move.shape} is of another model"
    return ShapeConflict(msg)
