"""The deployable grid: codebooks on int8 steps, quantized weights on their nearest center."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import numpy as np
from numpy.typing import NDArray

from reefleet.wire import codebook

CENTERS = "centers/"
PERSONAL = "personal/"

Arrays = Mapping[str, NDArray[np.float32]]


def snap(state: MutableMapping[str, NDArray[np.float32]], policy: str = "snap") -> None:
    """Put each `centers/NAME` on the int8 grid and each `personal/NAME` on its nearest center.

    Another `policy` does a part of it, see `reefleet.wire.codebook.settle`. Writes into the arrays
    of `state`.
    """
    for name, centers in coded(state).items():
        weights = state[PERSONAL + name]
        weights[...], centers[...] = codebook.settle(policy, weights, centers)


def coded(state: Arrays) -> dict[str, NDArray[np.float32]]:
    """Codebooks of `state` by the name of the weight they belong to."""
    return {
        name[len(CENTERS) :]: centers
        for name, centers in state.items()
        if name.startswith(CENTERS) and PERSONAL + name[len(CENTERS) :] in state
    }


def personal(state: Arrays) -> dict[str, NDArray[np.float32]]:
    """The personal weights of `state` by plain name."""
    return {n[len(PERSONAL) :]: value for n, value in state.items() if n.startswith(PERSONAL)}


def quantized(state: Arrays) -> dict[str, NDArray[np.float32]]:
    """The personal weights as they would be answered with: coded ones at their nearest center."""
    books = coded(state)
    return {
        name: books[name][codebook.assign(value, books[name])] if name in books else value
        for name, value in personal(state).items()
    }
