"""The header of a packed tensor set: what it promises, and where each payload lies.

No size that it announces is believed before it has been checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.message import DecodeError

from reefleet.errors import PayloadTooLarge, TruncatedPayload, UnsupportedVersion, WireError
from reefleet.model import Shape
from reefleet.v1 import tensor_pb2 as pb
from reefleet.wire import bitpack

MAGIC = b"REEFTNS1"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_RANK = 8
PREFIX_BYTES = len(MAGIC) + 4
# Updates of one kind of plan have equal headers, so a round reads a few of them again and again.
_REMEMBERED, _REMEMBERED_BYTES = 8, 1 << 16


@dataclass(frozen=True, slots=True)
class Layout:
    """Each tensor's entry with the offset of its payload, in the file's order; sizes of all."""

    places: Mapping[str, tuple[pb.TensorEntry, int]]
    shapes: Mapping[str, Shape]
    plain_bytes: int
    decoded_bytes: int  # as float32
    begin: int  # of the first payload
    end: int  # of the last one

    def require_fit(self, file_bytes: int, max_plain_bytes: int) -> None:
        """Raise PayloadTooLarge, TruncatedPayload or WireError where the file is not this."""
        if (largest := max(self.plain_bytes, self.decoded_bytes)) > max_plain_bytes:
            msg = f"the tensors take {largest} bytes; the limit is {max_plain_bytes}"
            raise PayloadTooLarge(msg)
        if self.end > file_bytes:
            stored, left = self.end - self.begin, file_bytes - self.begin
            msg = f"the payloads take {stored} bytes, {left} are left"
            raise TruncatedPayload(msg)
        if self.end < file_bytes:
            msg = f"the packed tensor set has {file_bytes - self.end} bytes too many at its end"
            raise WireError(msg)


def header_bytes(start: bytes | memoryview) -> int:
    """Bytes up to the first payload, from the first PREFIX_BYTES of a file; raises WireError."""
    if len(start) < PREFIX_BYTES:
        msg = f"a packed tensor set has at least {PREFIX_BYTES} bytes, found {len(start)}"
        raise TruncatedPayload(msg)
    if start[: len(MAGIC)] != MAGIC:
        msg = "the bytes are not a packed tensor set (the magic differs)"
        raise WireError(msg)
    length = int.from_bytes(start[len(MAGIC) : PREFIX_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        msg = f"the header announces {length} bytes; the limit is {MAX_HEADER_BYTES}"
        raise PayloadTooLarge(msg)
    return PREFIX_BYTES + length


def read_layout(data: bytes | memoryview) -> Layout:
    """What the header at the beginning of `data` says; raises WireError."""
    end = header_bytes(data)
    if end > len(data):
        left = len(data) - PREFIX_BYTES
        msg = f"the header announces {end - PREFIX_BYTES} bytes, {left} are left"
        raise TruncatedPayload(msg)
    header = bytes(data[PREFIX_BYTES:end])
    return _remembered(header) if len(header) <= _REMEMBERED_BYTES else _read(header)


def require_shape(entry: pb.TensorEntry) -> None:
    """Raise WireError for a shape that no packed tensor may have."""
    if len(entry.shape) > MAX_RANK or 0 in entry.shape:
        found = list(entry.shape)[: MAX_RANK + 1]
        msg = f"tensor {entry.name!r} has shape {found}; up to {MAX_RANK} axes, none of them empty"
        raise WireError(msg)


def _read(header: bytes) -> Layout:
    parsed = pb.TensorSet()
    try:
        parsed.ParseFromString(header)
    except DecodeError as error:
        msg = f"the header of the packed tensor set cannot be read: {error}"
        raise WireError(msg) from error
    _require_version(parsed.format_version)
    begin = offset = PREFIX_BYTES + len(header)
    plain = decoded = 0
    places: dict[str, tuple[pb.TensorEntry, int]] = {}
    shapes: dict[str, Shape] = {}
    for entry in parsed.tensors:
        if not entry.name or entry.name in places:
            msg = f"the packed tensor set names {entry.name!r} twice or not at all"
            raise WireError(msg)
        require_shape(entry)
        count = math.prod(entry.shape)
        if entry.plain_bytes != (expected := _plain_size(entry, count)):
            msg = f"tensor {entry.name!r} announces {entry.plain_bytes} bytes, takes {expected}"
            raise WireError(msg)
        places[entry.name], shapes[entry.name] = (entry, offset), tuple(entry.shape)
        plain += entry.plain_bytes
        decoded += 4 * count
        offset += entry.stored_bytes
    return Layout(places, shapes, plain, decoded, begin, offset)


_remembered = lru_cache(_REMEMBERED)(_read)


def _require_version(found: int) -> None:
    if found < 1:
        msg = "the packed tensor set names no format version"
        raise WireError(msg)
    if found > FORMAT_VERSION:
        msg = (
            f"the packed tensor set has format {found}, this program reads up "
            f"to {FORMAT_VERSION}; update reefleet on this machine"
        )
        raise UnsupportedVersion(msg)


def _plain_size(entry: pb.TensorEntry, count: int) -> int:
    encoding = entry.WhichOneof("encoding")
    if encoding == "float32":
        return 4 * count
    if encoding == "float16":
        return 2 * count
    if encoding == "codebook":
        return bitpack.packed_size(count, entry.codebook.bits)
    if encoding is None:
        msg = f"tensor {entry.name!r} has an encoding that this program does not know"
        raise UnsupportedVersion(msg)
    if entry.int8_blocks.block_size < 1:
        msg = f"tensor {entry.name!r} has int8 blocks of no values"
        raise WireError(msg)
    return count + 4 * -(-count // entry.int8_blocks.block_size)
