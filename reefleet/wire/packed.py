"""A packed tensor set left in its file: the header is read once, each tensor when it is needed."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DamagedFile, NonFiniteValues, TensorMismatch
from reefleet.model import Shape
from reefleet.wire.layout import PREFIX_BYTES, header_bytes, read_layout
from reefleet.wire.tensors import decode_payload

HEAD_BYTES = 1 << 14  # the header of most sets
WINDOW_BYTES = 1 << 20
_ALIGNMENT = 4


class PackedFile(Mapping[str, NDArray[np.float32]]):
    """The tensors of one file, decoded and multiplied by `scale` as they are read, not kept.

    `key` names the content.
    """

    def __init__(
        self, path: Path, key: str, expected: Mapping[str, Shape], scale: float = 1.0
    ) -> None:
        """Read the header; raises TensorMismatch where names or shapes are others, WireError."""
        self.key = key
        self._path = path
        self._scale = np.float32(scale)
        with self._opened() as handle:
            head = os.pread(handle, HEAD_BYTES, 0)
            end = header_bytes(head[:PREFIX_BYTES])
            if end > len(head):
                head += os.pread(handle, end - len(head), len(head))
            layout = read_layout(head[:end])
            require_shapes(layout.shapes, expected)
            bound = sum(8 * math.prod(shape) for shape in layout.shapes.values())
            layout.require_fit(os.fstat(handle).st_size, bound)
        self.shapes: Mapping[str, Shape] = layout.shapes
        self._places = layout.places

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded now; raises WireError or DamagedFile where the file has changed."""
        entry, offset = self._places[name]
        with self._opened() as handle:
            values = decode_payload(entry, os.pread(handle, entry.stored_bytes, offset))
        self.require_finite(name, values)
        return values if self._scale == 1 else values * self._scale

    def __iter__(self) -> Iterator[str]:
        """Names, in the file's order."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._places)

    def only(self, names: Collection[str]) -> PackedFile:
        """The same file as if it held those of its tensors alone that are among `names`."""
        part = copy(self)
        part.shapes = {name: shape for name, shape in self.shapes.items() if name in names}
        places = {name: self._places[name] for name in part.shapes}
        part._places = places  # noqa: SLF001  # of its own class
        return part

    def passing(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Each tensor in the file's order, in few reads; good until the next one is asked for.

        Whether its values are finite is not looked at. Raises as reading one does.
        """
        window = bytearray(WINDOW_BYTES)
        begin = end = 0
        with self._opened() as handle:
            for name, (entry, offset) in self._places.items():
                size = entry.stored_bytes
                if size > len(window):
                    window, end = bytearray(size), 0
                if offset + size > end or (offset - begin) % _ALIGNMENT:
                    begin, end = offset, offset + os.preadv(handle, [window], offset)
                stored = memoryview(window)[offset - begin : min(offset + size, end) - begin]
                values = decode_payload(entry, stored)
                yield name, values if self._scale == 1 else values * self._scale

    def require_finite(self, name: str, values: NDArray[np.float32]) -> None:
        """Raise NonFiniteValues naming the tensor where it holds NaN or infinity."""
        if not is_finite(values):
            msg = f"tensor {name!r} of {self.key} holds NaN or infinity"
            raise NonFiniteValues(msg)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        handle = -1
        try:
            handle = os.open(self._path, os.O_RDONLY)
            yield handle
        except OSError as error:
            msg = f"{self._path} cannot be read: {error.strerror}"
            raise DamagedFile(msg) from error
        finally:
            if handle >= 0:
                os.close(handle)


def is_finite(values: NDArray[np.float32]) -> bool:
    """Whether no value is NaN or infinite."""
    # A finite sum of squares proves it in a fifth of the time; large values may overflow one.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def require_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> None:
    """Raise TensorMismatch naming a tensor that is missing, unknown or of another shape."""
    if found == expected:
        return
    for name in sorted(found.keys() ^ expected.keys()):
        msg = f"tensor {name!r} is {'missing' if name in expected else 'unknown'}"
        raise TensorMismatch(msg)
    for name, shape in expected.items():
        if found[name] != tuple(shape):
            msg = f"tensor {name!r} has shape {found[name]}, expected {tuple(shape)}"
            raise TensorMismatch(msg)
