"""How fast a folder's disk takes and gives bytes, and how many it has left; never raises."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_BYTES = 8 << 20
_CHUNK = 1 << 20
_RESERVE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class StorageSpeed:
    """Megabytes a second, the write with its fsync; None where it could not be measured."""

    read_mbs: float | None = None
    write_mbs: float | None = None


def free_bytes(folder: Path) -> int | None:
    """Bytes left on the disk of a folder that may not exist yet; None where nobody tells."""
    try:
        return shutil.disk_usage(_nearest(folder)).free
    except (OSError, StopIteration):
        return None


def measure_storage(folder: Path) -> StorageSpeed:
    """Write and read 8 MiB in a folder's disk; nothing is left behind, a full disk is spared."""
    left = free_bytes(folder)
    if left is None or left < SAMPLE_BYTES + _RESERVE_BYTES:
        return StorageSpeed()
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder), buffering=0) as file:
            write_s = _write(file.fileno())
            read_s = _read(file.fileno())
    except (OSError, StopIteration):
        return StorageSpeed()
    return StorageSpeed(SAMPLE_BYTES / read_s / 1e6, SAMPLE_BYTES / write_s / 1e6)


def _write(descriptor: int) -> float:
    block = os.urandom(_CHUNK)  # a disk that compresses must not look faster than it is
    begin = time.perf_counter()
    for _ in range(SAMPLE_BYTES // _CHUNK):
        os.write(descriptor, block)
    os.fsync(descriptor)
    return max(time.perf_counter() - begin, 1e-9)


def _read(descriptor: int) -> float:
    if hasattr(os, "posix_fadvise"):  # else the page cache answers
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(descriptor, 0, os.SEEK_SET)
    begin = time.perf_counter()
    while os.read(descriptor, _CHUNK):
        pass
    return max(time.perf_counter() - begin, 1e-9)


def _nearest(folder: Path) -> Path:
    places = (folder.absolute(), *folder.absolute().parents)
    return next(place for place in places if place.exists())
