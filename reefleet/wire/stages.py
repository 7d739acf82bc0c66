"""The steps of an upload codec: each has an `encode` on the device and a `decode` on the server.

A codec is a list of them, so clipping and coding on the wire compose, and a step that adds noise
would stand between the two. Values that are not coded yet travel through as Float32Tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import WireError
from reefleet.plan import CLIP, UPLOAD_CODECS, codec_stages
from reefleet.wire.codebook import GRID_LIMIT, assign, lloyd
from reefleet.wire.tensors import (
    CodebookTensor,
    EncodedTensor,
    Float16Tensor,
    Float32Tensor,
    Int8BlocksTensor,
)

Tensors = dict[str, EncodedTensor]

_BLOCK_SIZE = 128
CODING_SLACK = 1.1  # coding after clipping may stretch an update by so much
_FEWEST_CODED = 512  # values; below it a codebook costs more than it saves
_FLOAT16_MAX = float(np.finfo(np.float16).max)


class Stage(Protocol):
    """One two-sided step. What `feeds_back` loses, the device adds to its next update."""

    @property
    def feeds_back(self) -> bool:
        """Whether what `encode` loses is kept as residual."""

    @property
    def loses(self) -> bool:
        """Whether `encode` may change a value."""

    def encode(self, tensors: Tensors) -> Tensors:
        """The device's side; may reuse the memory of its argument."""

    def decode(self, tensors: Tensors) -> Tensors:
        """The server's side; raises WireError where the device's side cannot have been taken."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Shorten the whole update to the norm `bound`. What is cut off is meant to be lost."""

    bound: float

    @property
    def feeds_back(self) -> bool:
        """Never: fed back, what is cut off every round would pile up without end."""
        return False

    @property
    def loses(self) -> bool:
        """Yes."""
        return True

    def encode(self, tensors: Tensors) -> Tensors:
        """Scale all values where together they are longer than the bound."""
        if (length := _norm(tensors)) <= self.bound:
            return tensors
        scale = np.float32(self.bound / length)
        return {name: Float32Tensor(tensor.decode() * scale) for name, tensor in tensors.items()}

    def decode(self, tensors: Tensors) -> Tensors:
        """Leave them as they are; raises WireError where they are longer than coding explains."""
        self.require(_norm(tensors))
        return tensors

    def require(self, length: float) -> None:
        """Raise WireError where an update of this norm was not clipped."""
        if not length <= self.bound * CODING_SLACK:
            msg = f"the update should have been clipped to {self.bound:g}, its norm is {length:.4g}"
            raise WireError(msg)


@dataclass(frozen=True, slots=True)
class Code:
    """Write values in the encodings of `codec`, one of UPLOAD_CODECS."""

    codec: str

    @property
    def feeds_back(self) -> bool:
        """Always: rounding is nobody's intention."""
        return True

    @property
    def loses(self) -> bool:
        """All but float32 rounds."""
        return self.codec != "float32"

    def encode(self, tensors: Tensors) -> Tensors:
        """Code every tensor; small ones go as float16 under a codebook codec."""
        return {name: _coded(tensor.decode(), self.codec) for name, tensor in tensors.items()}

    def decode(self, tensors: Tensors) -> Tensors:
        """Plain values again, whatever encoding each tensor names."""
        return {name: Float32Tensor(tensor.decode()) for name, tensor in tensors.items()}


def stages_of(codec: str) -> tuple[Stage, ...]:
    """The steps that a codec names; raises WireError where it names others than are known here."""
    stages = codec_stages(codec)
    if not stages:
        known = ", ".join(UPLOAD_CODECS)
        msg = f'codec {codec[:80]!r} is not one of {known}, alone or after "{CLIP}:BOUND,"'
        raise WireError(msg)
    return tuple(Clip(s.argument) if s.name == CLIP else Code(s.name) for s in stages)


def _norm(tensors: Mapping[str, EncodedTensor]) -> float:
    total = 0.0
    for tensor in tensors.values():
        values = tensor.decode().reshape(-1).astype(np.float64)
        total += float(np.dot(values, values))
    return math.sqrt(total)


def _coded(value: NDArray[np.float32], codec: str) -> EncodedTensor:
    if codec == "float32":
        return Float32Tensor(value)
    if codec == "int8":
        return _int8_blocks(value)
    if codec == "float16" or value.size < _FEWEST_CODED:
        return Float16Tensor(np.clip(value, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16))
    bits = int(codec.removeprefix("codebook"))
    centers = lloyd(value, bits)
    return CodebookTensor(assign(value, centers), bits, centers)


def _int8_blocks(value: NDArray[np.float32]) -> Int8BlocksTensor:
    flat = value.reshape(-1)
    blocks = -(-flat.size // _BLOCK_SIZE)
    padded = np.zeros((blocks, _BLOCK_SIZE), np.float32)
    padded.reshape(-1)[: flat.size] = flat
    scales = _scales(np.maximum(padded.max(axis=1), -padded.min(axis=1)))
    divisor = np.where(scales > 0, scales, np.float32(1))
    padded /= divisor[:, None]
    np.rint(padded, out=padded)
    np.clip(padded, -GRID_LIMIT, GRID_LIMIT, out=padded)
    steps = padded.astype(np.int8).reshape(-1)[: flat.size]
    return Int8BlocksTensor(steps, scales, _BLOCK_SIZE, value.shape)


def _scales(peaks: NDArray[np.float32]) -> NDArray[np.float32]:
    scales: NDArray[Any] = (peaks / np.float32(GRID_LIMIT)).astype(np.float32)
    # A subnormal scale has lost its precision; such a block is noise and goes as zeros.
    scales[scales < np.finfo(np.float32).tiny] = 0
    return scales
