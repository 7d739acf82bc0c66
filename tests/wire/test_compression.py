"""zstd payloads whose frames lie about themselves."""

from __future__ import annotations

import pytest
import zstandard

from reefleet.errors import PayloadTooLarge, WireError
from reefleet.wire.compression import compress, decompress

PLAIN = b"reef" * 1000


def test_decompressing_gives_back_what_was_compressed() -> None:
    stored = compress(PLAIN)
    assert len(stored) < len(PLAIN)
    assert decompress(stored, len(PLAIN), "w") == PLAIN


@pytest.mark.parametrize("plain", [b"", b"a" * 63, bytes(range(256))])
def test_bytes_that_compression_does_not_shrink_stay_as_they_are(plain: bytes) -> None:
    assert compress(plain) is plain


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(WireError, match="w is not a compressed payload of 100 bytes"):
        decompress(bomb, 100, "w")


def test_a_frame_of_unknown_size_is_refused() -> None:
    writer = zstandard.ZstdCompressor(write_content_size=False)
    with pytest.raises(WireError, match="not a compressed payload"):
        decompress(writer.compress(PLAIN), len(PLAIN), "w")


def test_a_frame_that_asks_for_a_large_window_is_refused() -> None:
    # Frame header: magic, descriptor (8-byte content size, not single-segment), window 2**31.
    frame = b"\x28\xb5\x2f\xfd\xc0" + bytes([21 << 3]) + (100).to_bytes(8, "little")
    with pytest.raises(PayloadTooLarge, match="window"):
        decompress(frame + b"\1\0\0", 100, "w")


def test_a_frame_that_holds_less_than_it_announces_is_refused() -> None:
    # A single-segment frame of 100 bytes whose only block is empty.
    with pytest.raises(WireError, match="w"):
        decompress(b"\x28\xb5\x2f\xfd\x20\x64\1\0\0", 100, "w")


@pytest.mark.parametrize("extra", [b"\0", compress(PLAIN)])
def test_bytes_after_the_frame_are_refused(extra: bytes) -> None:
    with pytest.raises(WireError, match="damaged"):
        decompress(compress(PLAIN) + extra, len(PLAIN), "w")


@pytest.mark.parametrize("stored", [b"", b"reef", compress(PLAIN)[:-3]])
def test_damaged_frames_are_refused(stored: bytes) -> None:
    with pytest.raises(WireError, match="damaged"):
        decompress(stored, len(PLAIN), "w")
