"""Upload codecs: an update is coded on the device with error feedback, decoded by the coordinator.

Error feedback (Seide et al. 2014): what coding loses in one round is added to the next delta, so
the sum of what arrives plus the residual is always the sum of what was trained. What a codec cuts
off on purpose (`clip`) is not part of that sum.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from itertools import dropwhile

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import NonFiniteUpdate, NonFiniteValues, TensorMismatch
from reefleet.model import Shape
from reefleet.plan import UPLOAD_CODECS, codec_stages
from reefleet.wire.chunks import Bytes
from reefleet.wire.layout import read_layout
from reefleet.wire.packed import PackedFile, is_finite, require_shapes
from reefleet.wire.stages import Clip, Tensors, stages_of
from reefleet.wire.tensors import (
    EncodedTensor,
    Float32Tensor,
    packed_parts,
    unpack_tensors,
)

__all__ = ["agreed", "decode_update", "encode", "encode_parts", "encode_update", "length_of"]


def agreed(wanted: str, known: Collection[str]) -> str:
    """What of the codec `wanted` a client can do that knows the steps `known`.

    Steps it does not know are left out, and for a coding that it does not know the next finer one
    is taken. A client that says nothing is from before codecs were chains.
    """
    stages = codec_stages(wanted)
    able = set(known) or set(UPLOAD_CODECS)
    finer = UPLOAD_CODECS[: UPLOAD_CODECS.index(stages[-1].name) + 1]
    coding = next((name for name in reversed(finer) if name in able), UPLOAD_CODECS[0])
    kept = [f"{s.name}:{s.argument!r}" for s in stages[:-1] if s.name in able]
    return ",".join([*kept, coding])


def encode(values: Mapping[str, NDArray[np.float32]], codec: str) -> dict[str, EncodedTensor]:
    """Code finite tensors; small ones go as float16 under a codebook codec. Raises WireError."""
    coded: Tensors = {n: Float32Tensor(np.asarray(v, np.float32)) for n, v in values.items()}
    for stage in stages_of(codec):
        coded = stage.encode(coded)
    return coded


def encode_update(
    delta: Mapping[str, NDArray[np.float32]],
    codec: str,
    residual: Mapping[str, NDArray[np.float32]],
) -> tuple[bytes, dict[str, NDArray[np.float32]]]:
    """One byte string of the parts that `encode_parts` gives, and the residual."""
    parts, lost = encode_parts(delta, codec, residual)
    return b"".join(parts), lost


def encode_parts(
    delta: Mapping[str, NDArray[np.float32]],
    codec: str,
    residual: Mapping[str, NDArray[np.float32]],
) -> tuple[list[Bytes], dict[str, NDArray[np.float32]]]:
    """Pack delta + residual; the new residual is what coding lost, by name, empty for nothing.

    What a codec leaves as it is stays in the memory of `delta`.

    A name without residual starts from zero. Raises NonFiniteUpdate naming the tensor,
    TensorMismatch where a residual is of another shape, WireError for a codec not known here.
    """
    stages = stages_of(codec)
    coded: Tensors = {
        name: Float32Tensor(_with_residual(name, value, residual)) for name, value in delta.items()
    }
    coding = list(dropwhile(lambda stage: not stage.feeds_back, stages))
    for stage in stages[: len(stages) - len(coding)]:
        coded = stage.encode(coded)
    if not any(stage.loses for stage in coding):
        return packed_parts(coded), {}
    lost = {name: np.array(tensor.decode()) for name, tensor in coded.items()}
    for stage in coding:
        coded = stage.encode(coded)
    parts = packed_parts(coded)
    # After packing: a float32 tensor is its own decoding, and becomes its own zero residual.
    for stage in reversed(coding):
        coded = stage.decode(coded)
    for name, tensor in coded.items():
        lost[name] -= tensor.decode()
    return parts, lost


def decode_update(
    data: bytes | memoryview, expected: Mapping[str, Shape], codec: str = UPLOAD_CODECS[0]
) -> dict[str, NDArray[np.float32]]:
    """Float32 tensors of exactly the `expected` names and shapes, by the server's side of `codec`.

    Raises TensorMismatch naming an unknown, missing or misshapen tensor, NonFiniteValues, or
    another WireError where the bytes break the format or are not what the codec gives.
    """
    require_shapes(read_layout(data).shapes, expected)
    # No coding takes more than a float32 scale and a float32 value for each value.
    bound = sum(8 * math.prod(shape) for shape in expected.values())
    tensors: Tensors = unpack_tensors(data, bound)
    stages = stages_of(codec)
    tensors = stages[-1].decode(tensors)
    values = {name: tensor.decode() for name, tensor in tensors.items()}
    for name, value in values.items():
        if not is_finite(value):
            msg = f"tensor {name!r} holds NaN or infinity"
            raise NonFiniteValues(msg)
    for stage in reversed(stages[:-1]):
        tensors = stage.decode(tensors)
    return {name: tensor.decode() for name, tensor in tensors.items()}


def length_of(update: PackedFile, codec: str) -> float:
    """The norm of a coded update, decoded a tensor at a time; raises WireError."""
    total = 0.0
    for name, values in update.passing():
        square = float(np.vdot(values, values))
        if not math.isfinite(square):  # a finite one proves that the values are
            update.require_finite(name, values)
        total += square
    length = math.sqrt(total)
    for stage in stages_of(codec):
        if isinstance(stage, Clip):
            stage.require(length)
    return length


def _with_residual(
    name: str, delta: NDArray[np.float32], residual: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    total = np.asarray(delta, np.float32)
    kept = residual.get(name)
    if kept is not None:
        if kept.shape != total.shape:
            msg = f"the residual of tensor {name!r} has shape {kept.shape}, not {total.shape}"
            raise TensorMismatch(msg)
        with np.errstate(over="ignore", invalid="ignore"):
            total = total + kept
    if not is_finite(total):
        msg = f"the update of tensor {name!r} holds NaN or infinity; training diverged"
        raise NonFiniteUpdate(msg)
    return total
