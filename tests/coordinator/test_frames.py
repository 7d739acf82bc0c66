"""Messages of files that several devices fetch."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path

import pytest

from coordinator.frames import Frames
from reefleet.blobs import BlobStore
from reefleet.errors import MissingFile
from reefleet.wire.chunks import read_fetched

DATA = bytes(range(256)) * 40


def test_a_second_reader_needs_no_file(tmp_path: Path) -> None:
    blobs, frames = BlobStore(tmp_path), Frames()
    digest = blobs.put(DATA)
    first = frames.of(blobs, digest, 0, repeat(len(DATA)).__next__)
    told = next(first)
    second = frames.of(blobs, digest, 0, repeat(len(DATA)).__next__)
    assert next(second) is told


@pytest.mark.parametrize("most_bytes", [0, 3000, 1 << 20])
def test_every_reader_gets_the_file_from_its_offset(tmp_path: Path, most_bytes: int) -> None:
    blobs, frames = BlobStore(tmp_path), Frames(most_bytes)
    digest = blobs.put(DATA)
    readers = [frames.of(blobs, digest, at, repeat(1000).__next__) for at in (0, 0, 500, 9999)]
    for reader, at in zip(readers, (0, 0, 500, 9999), strict=True):
        found = [read_fetched(message) for message in reader]
        assert b"".join(chunk.data for chunk in found) == DATA[at:]
        assert {chunk.total_bytes for chunk in found} == {len(DATA)}


def test_nothing_is_kept_after_the_last_transfer(tmp_path: Path) -> None:
    blobs, frames = BlobStore(tmp_path), Frames()
    digest = blobs.put(DATA)
    for _ in frames.of(blobs, digest, 0, repeat(1000).__next__):
        pass
    blobs.delete(digest)
    with pytest.raises(MissingFile):
        next(frames.of(blobs, digest, 0, repeat(1000).__next__))
