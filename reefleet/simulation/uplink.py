"""An update on its way up: coded with error feedback as a device does, decoded as a coordinator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reefleet.wire.codecs import decode_update, encode_update

Model = dict[str, NDArray[np.float32]]

RAW = "float32"
_PREFIX = "residual/"  # among what a client keeps


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came of an update, the bytes it took, and what the client keeps of it."""

    delta: Model
    size_bytes: int
    lost: Model


def send(delta: Model, codec: str, held: Mapping[str, NDArray[np.float32]]) -> Arrival:
    """Code `delta` and what `held` has of earlier ones, and decode it; raises WireError."""
    if codec == RAW:
        return Arrival(delta, sum(value.nbytes for value in delta.values()), {})
    earlier = {
        name.removeprefix(_PREFIX): value
        for name, value in held.items()
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) in delta
    }
    data, lost = encode_update(delta, codec, earlier)
    arrived = decode_update(data, {name: value.shape for name, value in delta.items()}, codec)
    return Arrival(arrived, len(data), {_PREFIX + name: value for name, value in lost.items()})


def without_residual(held: Model) -> Model:
    """What a client's work is given of what it keeps."""
    return {name: value for name, value in held.items() if not name.startswith(_PREFIX)}
