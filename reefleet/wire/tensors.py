"""The packed tensor set: named tensors, each in the encoding that suits it, in one byte string.

Layout in docs/wire-format.md. A reader believes no size before it has checked it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import NonFiniteValues, UnsupportedVersion, WireError
from reefleet.model import Shape
from reefleet.v1 import tensor_pb2 as pb
from reefleet.wire import bitpack
from reefleet.wire.codebook import GRID_LIMIT, Grid
from reefleet.wire.compression import compress as zstd_compress
from reefleet.wire.compression import decompress
from reefleet.wire.layout import FORMAT_VERSION, MAGIC, read_layout, require_shape

FLOAT_GAIN = 0.2
# 128 * scale stays finite in float32 for any scale up to this one.
_MAX_SCALE = float(np.finfo(np.float32).max) / 128


@dataclass(frozen=True, slots=True, eq=False)
class Float32Tensor:
    """Values as they are."""

    values: NDArray[np.float32]

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.values.shape

    def decode(self) -> NDArray[np.float32]:
        """The values themselves, not a copy."""
        return self.values


@dataclass(frozen=True, slots=True, eq=False)
class Float16Tensor:
    """Values rounded to half precision."""

    values: NDArray[np.float16]

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.values.shape

    def decode(self) -> NDArray[np.float32]:
        """Values as float32."""
        return self.values.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Int8BlocksTensor:
    """int8 steps in [-127, 127], flat [N], with a float32 scale for each `block_size` of them."""

    steps: NDArray[np.int8]
    scales: NDArray[np.float32]
    block_size: int
    shape: Shape

    def decode(self) -> NDArray[np.float32]:
        """Step times its block's scale, as float32 of `shape`."""
        values = self.steps.astype(np.float32)
        whole = values.size - values.size % self.block_size
        blocks = values[:whole].reshape(-1, self.block_size)
        blocks *= self.scales[: len(blocks), None]
        if whole < values.size:
            values[whole:] *= self.scales[-1]
        return values.reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class CodebookTensor:
    """Codes of the tensor's shape into 2**bits sorted centers, free or on the int8 grid."""

    codes: NDArray[np.uint8]
    bits: int
    codebook: Grid | NDArray[np.float32]

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.codes.shape

    @property
    def centers(self) -> NDArray[np.float32]:
        """The centers as float32 [2**bits]."""
        return self.codebook.centers if isinstance(self.codebook, Grid) else self.codebook

    def decode(self) -> NDArray[np.float32]:
        """Each code's center, as float32."""
        return np.asarray(self.centers[self.codes])


EncodedTensor = Float32Tensor | Float16Tensor | Int8BlocksTensor | CodebookTensor


def pack_tensors(tensors: Mapping[str, EncodedTensor], *, compress: bool = True) -> bytes:
    """One byte string of all tensors: the parts that `packed_parts` gives, joined."""
    return b"".join(packed_parts(tensors, compress=compress))


def packed_parts(
    tensors: Mapping[str, EncodedTensor], *, compress: bool = True
) -> list[bytes | memoryview]:
    """A packed set of all tensors, by name; zstd for each payload that it makes smaller.

    Floating-point payloads only where it saves a fifth: their noise costs both ends more time than
    the few bytes are worth. Those that are not compressed are the tensors' own memory.

    Raises WireError for a tensor without values or of too many axes.
    """
    header = pb.TensorSet(format_version=FORMAT_VERSION)
    payloads = []
    for name in sorted(tensors):
        entry, plain = _entry(name, tensors[name])
        is_float = isinstance(tensors[name], Float32Tensor | Float16Tensor)
        stored = zstd_compress(plain, FLOAT_GAIN if is_float else 0.0) if compress else plain
        entry.plain_bytes, entry.stored_bytes = len(plain), len(stored)
        entry.compression = pb.COMPRESSION_NONE if stored is plain else pb.COMPRESSION_ZSTD
        header.tensors.append(entry)
        payloads.append(stored)
    head = header.SerializeToString(deterministic=True)
    return [b"".join((MAGIC, len(head).to_bytes(4, "little"), head)), *payloads]


def unpack_tensors(data: bytes | memoryview, max_plain_bytes: int) -> dict[str, EncodedTensor]:
    """Read what `pack_tensors` wrote, in the file's order; the arrays are fresh and writable.

    `max_plain_bytes` bounds the whole set both decompressed and decoded to float32: over it
    PayloadTooLarge, before anything is allocated. Raises TruncatedPayload, UnsupportedVersion,
    NonFiniteValues or WireError naming the tensor where the bytes break the format.
    """
    view = memoryview(data)
    layout = read_layout(view)
    layout.require_fit(len(view), max_plain_bytes)
    return {
        name: _tensor(entry, _plain(entry, view[offset : offset + entry.stored_bytes]))
        for name, (entry, offset) in layout.places.items()
    }


def decode_payload(entry: pb.TensorEntry, stored: bytes | memoryview) -> NDArray[np.float32]:
    """The values of one tensor as float32, perhaps those of `stored`; raises as `unpack_tensors`.

    `stored` has to be aligned for what it holds.
    """
    plain = _plain(entry, memoryview(stored))
    if entry.WhichOneof("encoding") == "float32":
        return np.frombuffer(plain, "<f4").reshape(tuple(entry.shape))
    return _tensor(entry, plain).decode()


def _entry(name: str, tensor: EncodedTensor) -> tuple[pb.TensorEntry, bytes | memoryview]:
    entry = pb.TensorEntry(name=name, shape=tensor.shape)
    require_shape(entry)
    if isinstance(tensor, Float32Tensor):
        entry.float32.SetInParent()
        return entry, _bytes_of(np.ascontiguousarray(tensor.values, "<f4"))
    if isinstance(tensor, Float16Tensor):
        entry.float16.SetInParent()
        return entry, _bytes_of(np.ascontiguousarray(tensor.values, "<f2"))
    if isinstance(tensor, Int8BlocksTensor):
        entry.int8_blocks.block_size = tensor.block_size
        scales = np.ascontiguousarray(tensor.scales, "<f4").tobytes()
        return entry, scales + np.ascontiguousarray(tensor.steps, np.int8).tobytes()
    entry.codebook.bits = tensor.bits
    if isinstance(tensor.codebook, Grid):
        entry.codebook.grid.steps = np.ascontiguousarray(tensor.codebook.steps, np.int8).tobytes()
        entry.codebook.grid.scale = tensor.codebook.scale
    else:
        entry.codebook.free.values.extend(tensor.codebook.tolist())
    return entry, bitpack.pack(tensor.codes, tensor.bits)


def _plain(entry: pb.TensorEntry, stored: memoryview) -> memoryview:
    if entry.compression == pb.COMPRESSION_ZSTD:
        return memoryview(decompress(stored, entry.plain_bytes, f"tensor {entry.name!r}"))
    if entry.compression != pb.COMPRESSION_NONE:
        msg = f"tensor {entry.name!r} has compression {int(entry.compression)}, which is not known"
        raise UnsupportedVersion(msg)
    if len(stored) != entry.plain_bytes:
        msg = f"tensor {entry.name!r} stores {len(stored)} bytes of {entry.plain_bytes}"
        raise WireError(msg)
    return stored


def _tensor(entry: pb.TensorEntry, plain: memoryview) -> EncodedTensor:
    shape = tuple(entry.shape)
    encoding = entry.WhichOneof("encoding")
    if encoding == "float32":
        return Float32Tensor(_array(plain, "<f4", np.float32).reshape(shape))
    if encoding == "float16":
        return Float16Tensor(_array(plain, "<f2", np.float16).reshape(shape))
    if encoding == "codebook":
        codes = bitpack.unpack(plain, entry.codebook.bits, math.prod(shape))
        return CodebookTensor(codes.reshape(shape), entry.codebook.bits, _codebook(entry))
    count = math.prod(shape)
    scales = _array(plain[: len(plain) - count], "<f4", np.float32)
    steps = _array(plain[len(plain) - count :], np.int8, np.int8)
    if not bool(np.all((scales >= 0) & (scales <= _MAX_SCALE))):
        msg = f"tensor {entry.name!r} has a block scale that is negative or not finite"
        raise NonFiniteValues(msg)
    _check_steps(entry.name, steps)
    return Int8BlocksTensor(steps, scales, entry.int8_blocks.block_size, shape)


def _codebook(entry: pb.TensorEntry) -> Grid | NDArray[np.float32]:
    codebook = entry.codebook
    kind = codebook.WhichOneof("centers")
    if kind is None:
        msg = f"tensor {entry.name!r} has centers of a kind that this program does not know"
        raise UnsupportedVersion(msg)
    found = len(codebook.grid.steps) if kind == "grid" else len(codebook.free.values)
    if found != 1 << codebook.bits:
        msg = f"tensor {entry.name!r} has {found} centers for codes of {codebook.bits} bits"
        raise WireError(msg)
    if kind == "free":
        centers = np.array(codebook.free.values, np.float32)
        if not bool(np.isfinite(centers).all()):
            msg = f"tensor {entry.name!r} has a center that is not finite"
            raise NonFiniteValues(msg)
        _check_sorted(entry.name, centers)
        return centers
    if not 0 <= codebook.grid.scale <= _MAX_SCALE:
        msg = f"tensor {entry.name!r} has grid scale {codebook.grid.scale}"
        raise NonFiniteValues(msg)
    steps = np.frombuffer(codebook.grid.steps, np.int8)
    _check_steps(entry.name, steps)
    _check_sorted(entry.name, steps)
    return Grid(steps, codebook.grid.scale)


def _check_steps(name: str, steps: NDArray[np.int8]) -> None:
    if bool((steps < -GRID_LIMIT).any()):
        msg = f"tensor {name!r} has a step below -{GRID_LIMIT}"
        raise WireError(msg)


def _check_sorted(name: str, centers: NDArray[Any]) -> None:
    if bool((centers[1:] < centers[:-1]).any()):
        msg = f"the centers of tensor {name!r} are not sorted"
        raise WireError(msg)


def _bytes_of(values: NDArray[Any]) -> memoryview:
    """The memory of an array, not a copy: a model packed is as large as a model."""
    return values.reshape(-1).view(np.uint8).data


def _array(plain: memoryview, stored: Any, native: Any) -> NDArray[Any]:
    # Payloads lie back to back, so a view may be unaligned; the copy is aligned and writable.
    return np.array(np.frombuffer(plain, stored), native)
