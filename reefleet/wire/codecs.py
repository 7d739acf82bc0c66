"""Upload codecs: an update is coded on the device with error feedback, decoded by the coordinator.

Error feedback (Seide et al. 2014): what coding loses in one round is added to the next delta, so
the sum of what arrives plus the residual is always the sum of what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import NonFiniteUpdate, NonFiniteValues, TensorMismatch, WireError
from reefleet.model import Shape
from reefleet.plan import UPLOAD_CODECS
from reefleet.wire.codebook import GRID_LIMIT, assign, lloyd
from reefleet.wire.tensors import (
    CodebookTensor,
    EncodedTensor,
    Float16Tensor,
    Float32Tensor,
    Int8BlocksTensor,
    pack_tensors,
    read_shapes,
    unpack_tensors,
)

BLOCK_SIZE = 128
_FEWEST_CODED = 512  # values; below it a codebook costs more than it saves
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def encode(values: Mapping[str, NDArray[np.float32]], codec: str) -> dict[str, EncodedTensor]:
    """Code finite tensors; small ones go as float16 under a codebook codec. Raises WireError."""
    if codec not in UPLOAD_CODECS:
        msg = f"codec {codec!r} is not one of {', '.join(UPLOAD_CODECS)}"
        raise WireError(msg)
    return {name: _encoded(np.asarray(value, np.float32), codec) for name, value in values.items()}


def encode_update(
    delta: Mapping[str, NDArray[np.float32]],
    codec: str,
    residual: Mapping[str, NDArray[np.float32]],
) -> tuple[bytes, dict[str, NDArray[np.float32]]]:
    """Pack delta + residual; the new residual is what coding lost, by the same names.

    A name without residual starts from zero. Raises NonFiniteUpdate naming the tensor, or
    TensorMismatch where a residual is of another shape.
    """
    total = {name: _with_residual(name, value, residual) for name, value in delta.items()}
    encoded = encode(total, codec)
    data = pack_tensors(encoded)
    # After packing: a float32 tensor is the total itself, and becomes its own zero residual.
    for name, tensor in encoded.items():
        total[name] -= tensor.decode()
    return data, total


def decode_update(
    data: bytes | memoryview, expected: Mapping[str, Shape]
) -> dict[str, NDArray[np.float32]]:
    """Float32 tensors of exactly the `expected` names and shapes.

    Raises TensorMismatch naming an unknown, missing or misshapen tensor, NonFiniteValues, or
    another WireError where the bytes break the format.
    """
    found = read_shapes(data)
    for name in sorted(found.keys() ^ expected.keys()):
        msg = f"tensor {name!r} is {'missing' if name in expected else 'unknown'}"
        raise TensorMismatch(msg)
    for name, shape in expected.items():
        if found[name] != tuple(shape):
            msg = f"tensor {name!r} has shape {found[name]}, expected {tuple(shape)}"
            raise TensorMismatch(msg)
    # No coding takes more than a float32 scale and a float32 value for each value.
    bound = sum(8 * int(np.prod(shape)) for shape in expected.values())
    values = {name: tensor.decode() for name, tensor in unpack_tensors(data, bound).items()}
    for name, value in values.items():
        if not bool(np.isfinite(value).all()):
            msg = f"tensor {name!r} holds NaN or infinity"
            raise NonFiniteValues(msg)
    return values


def _with_residual(
    name: str, delta: NDArray[np.float32], residual: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    total = np.array(delta, np.float32)
    kept = residual.get(name)
    if kept is not None:
        if kept.shape != total.shape:
            msg = f"the residual of tensor {name!r} has shape {kept.shape}, not {total.shape}"
            raise TensorMismatch(msg)
        with np.errstate(over="ignore", invalid="ignore"):
            total += kept
    if not bool(np.isfinite(total).all()):
        msg = f"the update of tensor {name!r} holds NaN or infinity; training diverged"
        raise NonFiniteUpdate(msg)
    return total


def _encoded(value: NDArray[np.float32], codec: str) -> EncodedTensor:
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
    blocks = -(-flat.size // BLOCK_SIZE)
    padded = np.zeros((blocks, BLOCK_SIZE), np.float32)
    padded.reshape(-1)[: flat.size] = flat
    scales = _scales(np.maximum(padded.max(axis=1), -padded.min(axis=1)))
    divisor = np.where(scales > 0, scales, np.float32(1))
    padded /= divisor[:, None]
    np.rint(padded, out=padded)
    np.clip(padded, -GRID_LIMIT, GRID_LIMIT, out=padded)
    steps = padded.astype(np.int8).reshape(-1)[: flat.size]
    return Int8BlocksTensor(steps, scales, BLOCK_SIZE, value.shape)


def _scales(peaks: NDArray[np.float32]) -> NDArray[np.float32]:
    scales: NDArray[Any] = (peaks / np.float32(GRID_LIMIT)).astype(np.float32)
    # A subnormal scale has lost its precision; such a block is noise and goes as zeros.
    scales[scales < np.finfo(np.float32).tiny] = 0
    return scales
