"""What several devices fetch at a time is read and framed once.

The devices of a round ask for the same weights within moments. The last messages that were sent are
kept while a transfer runs, so that who comes second is served from memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from reefleet.blobs import BlobStore
from reefleet.wire.chunks import FetchedChunk, write_fetched

MOST_BYTES = 8 << 20

_Key = tuple[str, int, int]


class Frames:
    """The messages of the transfers under way; safe to use from many threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: dict[_Key, bytes] = {}
        self._bytes = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def of(
        self, blobs: BlobStore, digest: str, offset: int, next_bytes: Callable[[], int]
    ) -> Iterator[bytes]:
        """`FetchResponse` messages from `offset` to the end of a blob; raises MissingFile."""
        total = blobs.size(digest)
        with self._lock:
            self._under_way += 1
        try:
            while offset < total:
                size = min(next_bytes(), total - offset)
                yield self._frame(blobs, (digest, offset, size), total)
                offset += size
        finally:
            with self._lock:
                self._under_way -= 1
                if not self._under_way:
                    self._kept, self._bytes = {}, 0

    def _frame(self, blobs: BlobStore, key: _Key, total: int) -> bytes:
        if (found := self._kept.get(key)) is not None:
            return found
        frame = write_fetched(FetchedChunk(blobs.piece(*key), total))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = frame
                self._bytes += len(frame)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._kept.pop(next(iter(self._kept))))
        return frame
