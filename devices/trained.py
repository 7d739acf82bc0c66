"""What each trained set costs a step: forward passes of work, and the share of values kept.

`benchmarks/trained_sets.py` counts the multiply-accumulates in the steps' own traces. Adapters lie
in the blocks, so gradients pass backward through all of them; with a frozen backbone they do not,
for there Ree's token is given back without its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainedCost:
    """Forward passes of work, and the share of values kept for backward."""

    passes: float
    kept: float


# Kept values: a linear layer whose weight stays needs no input of its own for backward.
TRAINED: Mapping[str, TrainedCost] = {
    "full": TrainedCost(3.0, 1.0),
    "frozen": TrainedCost(1.05, 0.1),
    "lora": TrainedCost(2.1, 0.75),
    "ssf": TrainedCost(2.1, 1.0),
    "adapters": TrainedCost(2.05, 0.75),
    "parallel-adapters": TrainedCost(2.05, 0.75),
}
