"""The two messages that carry bulk bytes, written and read without copying the bytes.

The generated classes copy a chunk when it is set, when it is written and when it is read. The wire
is the same: `artifact.proto` and `fleet.proto` say it, and tests hold both ways against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reefleet.errors import TruncatedPayload, WireError

FETCH = "/reefleet.v1.ArtifactService/Fetch"
PUT_UPDATE = "/reefleet.v1.FleetService/PutUpdate"

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_UINT64 = (1 << 64) - 1

# Field number and wire type, as they begin a field.
_FETCHED_DATA, _FETCHED_TOTAL = 1 << 3 | _LENGTH, 2 << 3 | _VARINT
_SENT_LEASE, _SENT_SHA256 = 1 << 3 | _LENGTH, 2 << 3 | _LENGTH
_SENT_OFFSET, _SENT_DATA = 3 << 3 | _VARINT, 4 << 3 | _LENGTH

Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class FetchedChunk:
    """A `FetchResponse`."""

    data: Bytes
    total_bytes: int


@dataclass(frozen=True, slots=True)
class SentChunk:
    """A `PutUpdateRequest`; lease, digest and offset in the first one only."""

    data: Bytes
    lease: str = ""
    sha256: str = ""
    offset: int = 0


def write_fetched(chunk: FetchedChunk) -> bytes:
    """The message's bytes."""
    return b"".join(
        (*_bytes(_FETCHED_DATA, chunk.data), _number(_FETCHED_TOTAL, chunk.total_bytes))
    )


def read_fetched(message: bytes) -> FetchedChunk:
    """The message, its data still where they are in `message`; raises WireError."""
    data: Bytes = b""
    total = 0
    for tag, number, value in _fields(message):
        if tag == _FETCHED_DATA:
            data = value
        elif tag == _FETCHED_TOTAL:
            total = number
    return FetchedChunk(data, total)


def write_sent(chunk: SentChunk) -> bytes:
    """The message's bytes."""
    lease, sha256 = chunk.lease.encode(), chunk.sha256.encode()
    names = (*_bytes(_SENT_LEASE, lease), *_bytes(_SENT_SHA256, sha256))
    return b"".join((*names, _number(_SENT_OFFSET, chunk.offset), *_bytes(_SENT_DATA, chunk.data)))


def read_sent(message: bytes) -> SentChunk:
    """The message, its data still where they are in `message`; raises WireError."""
    data: Bytes = b""
    lease = sha256 = ""
    offset = 0
    for tag, number, value in _fields(message):
        if tag == _SENT_DATA:
            data = value
        elif tag == _SENT_OFFSET:
            offset = number
        elif tag == _SENT_LEASE:
            lease = _text(value)
        elif tag == _SENT_SHA256:
            sha256 = _text(value)
    return SentChunk(data, lease, sha256, offset)


def _bytes(tag: int, data: Bytes) -> tuple[Bytes, ...]:
    return (bytes((tag,)), _varint(len(data)), data) if data else ()


def _number(tag: int, value: int) -> bytes:
    return bytes((tag,)) + _varint(value) if value else b""


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _text(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        msg = "a chunk's lease or digest is not UTF-8"
        raise WireError(msg) from error


def _fields(message: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Tag, number and bytes of each field; a number has no bytes, bytes have no number."""
    view, at, end = memoryview(message), 0, len(message)
    while at < end:
        tag, at = _read_varint(message, at)
        number, size = 0, 0
        kind = tag & 7
        if kind == _VARINT:
            number, at = _read_varint(message, at)
        elif kind == _LENGTH:
            size, at = _read_varint(message, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            msg = f"a chunk's message has a field of wire type {kind}"
            raise WireError(msg)
        if tag >> 3 == 0 or size > end - at:
            msg = f"a chunk's message is cut or damaged at byte {at} of {end}"
            raise TruncatedPayload(msg)
        yield tag, number, view[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte <= 0x7F:
            return value & _UINT64, at + count + 1
    msg = f"a chunk's message is cut or damaged at byte {at} of {len(message)}"
    raise TruncatedPayload(msg)
