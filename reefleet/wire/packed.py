"""A packed tensor set left packed: the header is read once, each tensor when it is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, NonFiniteValues, TensorMismatch
from reefleet.model import Shape
from reefleet.wire.tensors import MAGIC, MAX_HEADER_BYTES, decode_payload, index


class PackedBytes(Mapping[str, NDArray[np.float32]]):
    """The tensors in `data`, decoded and multiplied by `scale` as they are asked for, not kept."""

    def __init__(self, data: bytes, expected: Mapping[str, Shape], scale: float = 1.0) -> None:
        """Read the header; raises TensorMismatch where names or shapes are others, WireError."""
        self.shapes: dict[str, Shape] = {name: tuple(shape) for name, shape in expected.items()}
        bound = sum(8 * math.prod(shape) for shape in self.shapes.values())
        self._scale = np.float32(scale)
        self._data = memoryview(data)
        self._places = index(data, len(data), bound)
        if {name: tuple(entry.shape) for name, (entry, _) in self._places.items()} != self.shapes:
            msg = "the packed tensors are not those that were accepted"
            raise TensorMismatch(msg)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded now; raises WireError, or NonFiniteValues naming it."""
        entry, offset = self._places[name]
        values = decode_payload(entry, self._data[offset : offset + entry.stored_bytes])
        if not bool(np.isfinite(values).all()):
            msg = f"tensor {name!r} holds NaN or infinity"
            raise NonFiniteValues(msg)
        return values if self._scale == 1 else values * self._scale

    def __iter__(self) -> Iterator[str]:
        """Names, in the file's order."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._places)


class PackedFile:
    """The tensors of one file, multiplied by `scale` as they are read; `key` names the content."""

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
        self._places = index(head, self._size(), bound)
        if {name: tuple(entry.shape) for name, (entry, _) in self._places.items()} != self.shapes:
            msg = f"{key} does not hold the tensors that it was accepted with"
            raise TensorMismatch(msg)

    def read(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded now; raises WireError or DamagedFile where the file has changed."""
        entry, offset = self._places[name]
        values = decode_payload(entry, self._bytes(offset, entry.stored_bytes))
        if not bool(np.isfinite(values).all()):
            msg = f"tensor {name!r} of {self.key} holds NaN or infinity"
            raise NonFiniteValues(msg)
        return values if self._scale == 1 else values * self._scale

    def _size(self) -> int:
        return self._path.stat().st_size

    def _bytes(self, offset: int, size: int) -> bytes:
        try:
            with self._path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        except OSError as error:
            msg = f"{self._path} cannot be read: {error.strerror}"
            raise DamagedFile(msg) from error
