"""A look into the device's data file without reading its samples, and without numpy.

An idle client needs to know that its data are sound and how many there are, and nothing more.
"""

from __future__ import annotations

import ast
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from reefleet.errors import DamagedFile, MissingFile

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {b"\x01": 2, b"\x02": 4, b"\x03": 4}  # by the format's version
_MOST_HEADER_BYTES = 10_000  # as numpy's own bound
_IMAGE_AXES = 4
_UINT8 = "|u1"
_WHOLE = "iu"


@dataclass(frozen=True, slots=True)
class _Header:
    """What an array is."""

    dtype: str
    shape: tuple[int, ...]


def counts(path: Path, names: Sequence[str], *, thoroughly: bool = True) -> dict[str, int]:
    """How many samples each part has; `thoroughly` holds every byte against its checksum.

    Raises MissingFile, or DamagedFile naming the array that is absent or of the wrong kind.
    """
    try:
        with path.open("rb") as file:
            _require_archive(file, path)
            with zipfile.ZipFile(file) as archive:
                found = {name: _count(archive, name, path) for name in names}
                if thoroughly and (damaged := archive.testzip()):
                    msg = f"the data file {path} is damaged: {damaged} does not fit its checksum"
                    raise DamagedFile(msg)
                return found
    except FileNotFoundError as error:
        msg = f"the data file {path} does not exist"
        raise MissingFile(msg) from error
    except PermissionError as error:
        msg = f"the data file {path} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error
    except (OSError, EOFError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"the data file {path} is damaged: {error}"
        raise DamagedFile(msg) from error


def mark_of(path: Path) -> str:
    """What is different once the file has been changed; '' where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _require_archive(file: IO[bytes], path: Path) -> None:
    if file.read(len(_MAGIC)) == _MAGIC:
        msg = f"{path} is a single array; an .npz archive is needed"
        raise DamagedFile(msg)


def _count(archive: zipfile.ZipFile, name: str, path: Path) -> int:
    images = _header(archive, f"{name}_images", path)
    labels = _header(archive, f"{name}_labels", path)
    if images.dtype != _UINT8 or len(images.shape) != _IMAGE_AXES:
        msg = f"{name}_images in {path} must be uint8 [N, C, H, W], found {images.dtype}"
        raise DamagedFile(msg)
    if labels.dtype[1:2] not in _WHOLE or labels.shape != images.shape[:1]:
        msg = f"{name}_labels in {path} must be {images.shape[0]} whole numbers, one an image"
        raise DamagedFile(msg)
    return images.shape[0]


def _header(archive: zipfile.ZipFile, key: str, path: Path) -> _Header:
    try:
        member = archive.open(f"{key}.npy")
    except KeyError as error:
        msg = f"the data file {path} has no array {key!r}"
        raise DamagedFile(msg) from error
    with member as stream:
        begin = stream.read(len(_MAGIC) + 2)
        version = begin[len(_MAGIC) : len(_MAGIC) + 1]
        size = int.from_bytes(stream.read(_LENGTH_BYTES.get(version, 0)), "little")
        if not begin.startswith(_MAGIC) or not 0 < size <= _MOST_HEADER_BYTES:
            msg = f"the array {key!r} of the data file {path} has no readable header"
            raise DamagedFile(msg)
        values = ast.literal_eval(stream.read(size).decode("latin-1").strip())
    shape = tuple(values["shape"]) if isinstance(values, dict) and "shape" in values else (-1,)
    if not all(isinstance(extent, int) and extent >= 0 for extent in shape):
        msg = f"the array {key!r} of the data file {path} has no readable header"
        raise DamagedFile(msg)
    return _Header(str(values.get("descr", "")), shape)
