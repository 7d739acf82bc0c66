"""A packed tensor set left in its file: the header is read once, each tensor when it is needed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, NonFiniteValues, TensorMismatch
from reefleet.model import Shape
from reefleet.wire.tensors import MAGIC, MAX_HEADER_BYTES, decode_payload, index, read_shapes


class PackedFile(Mapping[str, NDArray[np.float32]]):
    """The tensors of one file, decoded and multiplied by `scale` as they are read, not kept.

    `key` names the content.
    """

    def __init__(
        self, path: Path, key: str, expected: Mapping[str, Shape], scale: float = 1.0
    ) -> None:
        """Read the header; raises TensorMismatch where names or shapes are others, WireError."""
        self.key = key
        self.shapes: dict[str, Shape] = {name: tuple(shape) for name, shape in expected.items()}
        self._path = path
        self._scale = np.float32(scale)
        bound = sum(8 * math.prod(shape) for shape in self.shapes.values())
        head = self._bytes(0, len(MAGIC) + 4)
        length = min(int.from_bytes(head[len(MAGIC) :], "little"), MAX_HEADER_BYTES)
        head += self._bytes(len(head), length)
        require_shapes(read_shapes(head), expected)
        self._places = index(head, self._size(), bound)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded now; raises WireError or DamagedFile where the file has changed."""
        entry, offset = self._places[name]
        values = decode_payload(entry, self._bytes(offset, entry.stored_bytes))
        # A finite sum of squares proves it in a fifth of the time; large values may overflow one.
        if not (math.isfinite(np.vdot(values, values)) or np.isfinite(values).all()):
            msg = f"tensor {name!r} of {self.key} holds NaN or infinity"
            raise NonFiniteValues(msg)
        return values if self._scale == 1 else values * self._scale

    def __iter__(self) -> Iterator[str]:
        """Names, in the file's order."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._places)

    def _size(self) -> int:
        return self._path.stat().st_size

    def _bytes(self, offset: int, size: int) -> bytes:
        try:
            handle = os.open(self._path, os.O_RDONLY)
            try:
                return os.pread(handle, size, offset)
            finally:
                os.close(handle)
        except OSError as error:
            msg = f"{self._path} cannot be read: {error.strerror}"
            raise DamagedFile(msg) from error


def require_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> None:
    """Raise TensorMismatch naming a tensor that is missing, unknown or of another shape."""
    for name in sorted(found.keys() ^ expected.keys()):
        msg = f"tensor {name!r} is {'missing' if name in expected else 'unknown'}"
        raise TensorMismatch(msg)
    for name, shape in expected.items():
        if found[name] != tuple(shape):
            msg = f"tensor {name!r} has shape {found[name]}, expected {tuple(shape)}"
            raise TensorMismatch(msg)
