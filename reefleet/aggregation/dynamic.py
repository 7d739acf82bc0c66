"""FedDyn's server rule, by holder: the mean of the models, pushed on by what the fleet has moved.

    a = unweighted mean over the n_k holders
    h -= alpha (n_k / N) (a - theta);  theta = a - h / alpha

FedDyn (Acar et al., ICLR 2021) as DepthFL's released form applies it to sub-models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reefleet.aggregation.mean import HolderMean, HolderSums

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The rule for a fleet of `devices`, `alpha` as the devices use it."""

    devices: int
    alpha: float

    def finish(
        self, state: HolderSums, model: Arrays, memory: Arrays
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """The new model and memory h; `state` was folded with weight 1 an update."""
        mean = HolderMean().finish(state, model)
        moved, kept = {}, {}
        for name, old in model.items():
            h = memory.get(name, np.zeros_like(old))
            if holders := state.weights[name]:
                h = h - np.float32(self.alpha * holders / self.devices) * (mean[name] - old)
                moved[name] = mean[name] - h / np.float32(self.alpha)
            else:
                moved[name] = mean[name]
            kept[name] = h
        return moved, kept
