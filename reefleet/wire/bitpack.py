"""Codes of 1 to 8 bits packed without gaps, least significant bit first.

Eight codes of b bits are exactly b bytes, so a 64-bit word takes eight codes and gives b bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import TruncatedPayload, WireError

_GROUP = 8  # codes a word


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take; raises WireError unless 1 <= bits <= 8."""
    if not 1 <= bits <= 8:
        msg = f"a code of {bits} bits cannot be packed; 1 to 8 can"
        raise WireError(msg)
    return (count * bits + 7) // 8


def pack(codes: NDArray[np.uint8], bits: int) -> bytes:
    """Pack codes of any shape in C order, padding the last byte with zero bits.

    Raises WireError where a code does not fit `bits` bits.
    """
    size = packed_size(codes.size, bits)
    flat = np.ascontiguousarray(codes, np.uint8).reshape(-1)
    if flat.size and int(flat.max()) >> bits:
        msg = f"code {int(flat.max())} does not fit {bits} bits"
        raise WireError(msg)
    if bits == 8:
        return flat.tobytes()
    groups = -(-flat.size // _GROUP)
    padded = np.zeros((groups, _GROUP), np.uint8)
    padded.reshape(-1)[: flat.size] = flat
    words = np.zeros(groups, np.dtype("<u8"))
    for index in range(_GROUP):
        words |= padded[:, index].astype(np.uint64) << np.uint64(index * bits)
    packed = np.ascontiguousarray(words.view(np.uint8).reshape(groups, 8)[:, :bits])
    return packed.tobytes()[:size]


def unpack(data: bytes | memoryview, bits: int, count: int) -> NDArray[np.uint8]:
    """Codes [count] that `pack` wrote; padding bits are not looked at.

    Raises TruncatedPayload where `data` is short, WireError where it is long.
    """
    size = packed_size(count, bits)
    if len(data) < size:
        msg = f"{count} codes of {bits} bits need {size} bytes, found {len(data)}"
        raise TruncatedPayload(msg)
    if len(data) > size:
        msg = f"{count} codes of {bits} bits take {size} bytes, found {len(data)}"
        raise WireError(msg)
    packed = np.frombuffer(data, np.uint8)
    if bits == 8:
        return packed.copy()
    groups = -(-count // _GROUP)
    padded = np.zeros(groups * bits, np.uint8)
    padded[:size] = packed
    words = np.zeros((groups, 8), np.uint8)
    words[:, :bits] = padded.reshape(groups, bits)
    word = words.reshape(-1).view(np.dtype("<u8"))
    codes = np.empty((groups, _GROUP), np.uint8)
    mask = np.uint64((1 << bits) - 1)
    for index in range(_GROUP):
        codes[:, index] = (word >> np.uint64(index * bits)) & mask
    return codes.reshape(-1)[:count]
