"""zstd for single payloads, with every size believed only after it has been checked."""

from __future__ import annotations

import threading
from typing import Any

from reefleet.errors import PayloadTooLarge, RuntimeUnavailable, TruncatedPayload, WireError

_LEVEL = 3
_LEAST_BYTES = 64  # below it a frame's own header eats what is won
_TRIED_BYTES = 1 << 15
_MAX_WINDOW_BYTES = 8 << 20

_made = threading.local()


def compress(plain: bytes | memoryview, least_gain: float = 0.0) -> bytes | memoryview:
    """A zstd frame of `plain`, or `plain` itself where that saves no more than `least_gain` of it.

    A large payload is tried on a piece first: what is as good as noise costs next to nothing.
    """
    if len(plain) < _LEAST_BYTES:
        return plain
    compressor, most = _compressor(), 1.0 - least_gain
    if least_gain and len(plain) > 2 * _TRIED_BYTES:
        middle = len(plain) // 2
        tried = compressor.compress(plain[middle : middle + _TRIED_BYTES])
        if len(tried) >= most * _TRIED_BYTES:
            return plain
    stored: bytes = compressor.compress(plain)
    return stored if len(stored) < most * len(plain) else plain


def decompress(stored: bytes | memoryview, plain_bytes: int, owner: str) -> bytes:
    """Exactly `plain_bytes` bytes from one zstd frame; `owner` names the payload in errors.

    Raises WireError, PayloadTooLarge or TruncatedPayload; never allocates more than announced.
    """
    zstandard = _zstandard()
    try:
        frame = zstandard.get_frame_parameters(stored)
        # The decompressor allocates what the frame announces, so that is checked first.
        if frame.content_size != plain_bytes or frame.dict_id:
            msg = f"{owner} is not a compressed payload of {plain_bytes} bytes"
            raise WireError(msg)
        if frame.window_size > max(_MAX_WINDOW_BYTES, plain_bytes):
            msg = f"{owner} asks for a window of {frame.window_size} bytes to decompress"
            raise PayloadTooLarge(msg)
        plain: bytes = _decompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        msg = f"the compressed payload of {owner} is damaged: {error}"
        raise WireError(msg) from error
    if len(plain) != plain_bytes:
        msg = f"{owner} holds {len(plain)} bytes of {plain_bytes}"
        raise TruncatedPayload(msg)
    return plain


# A thread keeps its own of each: making one costs more than a small payload.


def _compressor() -> Any:
    if (found := getattr(_made, "compressor", None)) is None:
        found = _made.compressor = _zstandard().ZstdCompressor(level=_LEVEL)
    return found


def _decompressor() -> Any:
    if (found := getattr(_made, "decompressor", None)) is None:
        found = _made.decompressor = _zstandard().ZstdDecompressor()
    return found


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        msg = "packed tensors need the zstandard wheel: pip install 'reefleet[edge]'"
        raise RuntimeUnavailable(msg) from error
    return zstandard
