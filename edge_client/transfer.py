"""Files in bounded chunks, both ways, each resumed at the offset that the receiving end holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Protocol

from edge_client.stopping import Stopped
from edge_client.task import Artifact
from reefleet.blobs import BlobStore
from reefleet.errors import PayloadTooLarge, TruncatedPayload, WireError
from reefleet.rpc.pace import Pace
from reefleet.wire.chunks import Bytes

OWNER = "download"

Chunks = Callable[[int], Iterator[Bytes]]  # all bytes from an offset on
Reader = Callable[[int, int], Bytes]  # from an offset so many, fewer at the end


class Source(Protocol):
    """Where chunks come from."""

    def fetch(self, artifact: Artifact, offset: int) -> Iterator[tuple[Bytes, int]]:
        """Bytes from `offset` on, in order, each time with the size of the whole file."""


class Sink(Protocol):
    """Where an update goes."""

    def open_update(self, lease: str, update: Artifact) -> int:
        """Offset to go on from."""

    def put_update(self, lease: str, update: Artifact, offset: int, rest: Chunks) -> int:
        """Send what follows `offset`; the offset held then."""


def download(
    source: Source,
    store: BlobStore,
    artifact: Artifact,
    max_bytes: int,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Fetch a file into the store unless it is there; a cut transfer goes on where it stopped.

    Raises PayloadTooLarge before the first byte where the announced size is over `max_bytes`, and
    ChecksumMismatch, with the partial dropped, where the bytes are not those of the digest.
    """
    if store.has(artifact.sha256):
        return
    if artifact.size_bytes > max_bytes:
        msg = f"the coordinator offers a file of {artifact.size_bytes} bytes, over {max_bytes}"
        raise PayloadTooLarge(msg)
    offset = store.partial_size(OWNER, artifact.sha256)
    if offset < artifact.size_bytes:
        for data, total in source.fetch(artifact, offset):
            check()
            _require_sound(artifact, offset, data, total)
            offset = store.append(OWNER, artifact.sha256, offset, data, artifact.size_bytes)
        if offset < artifact.size_bytes:
            msg = f"blob {artifact.sha256} ends at byte {offset} of {artifact.size_bytes}"
            raise TruncatedPayload(msg)
    if not artifact.size_bytes:
        store.append(OWNER, artifact.sha256, 0, b"", 0)
    store.finish(OWNER, artifact.sha256)


def in_memory(*parts: Bytes) -> Reader:
    """Reads `parts` as if they were one file."""
    views = [memoryview(part) for part in parts]
    begins = list(accumulate(map(len, views), initial=0))

    def read(offset: int, size: int) -> Bytes:
        if offset >= begins[-1]:
            return b""
        number = bisect_right(begins, offset) - 1
        pieces = []
        while size and number < len(views):
            piece = views[number][offset - begins[number] :][:size]
            pieces.append(piece)
            offset, size, number = offset + len(piece), size - len(piece), number + 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    return read


def upload(
    sink: Sink,
    lease: str,
    update: Artifact,
    read: Reader,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Send what the coordinator does not hold of an update; raises WireError on a bad offset."""

    def rest(offset: int) -> Iterator[Bytes]:
        pace = Pace()
        with suppress(Stopped):  # in a thread of the sink's: the loop below meets it again
            while offset < update.size_bytes:
                check()
                piece = read(offset, pace.next_bytes())
                yield piece
                offset += len(piece)

    offset = sink.open_update(lease, update)
    while offset < update.size_bytes:
        check()
        _require_offset(offset, 0, update)
        held = sink.put_update(lease, update, offset, rest)
        check()
        _require_offset(held, offset + 1, update)
        offset = held


def _require_sound(artifact: Artifact, offset: int, data: Bytes, total: int) -> None:
    if total != artifact.size_bytes:
        msg = f"blob {artifact.sha256} has {total} bytes, announced were {artifact.size_bytes}"
        raise TruncatedPayload(msg)
    if not data:
        msg = f"blob {artifact.sha256} comes with an empty chunk at byte {offset}"
        raise TruncatedPayload(msg)
    if offset + len(data) > artifact.size_bytes:
        msg = f"a chunk of {len(data)} bytes of blob {artifact.sha256} goes beyond its end"
        raise PayloadTooLarge(msg)


def _require_offset(offset: int, least: int, update: Artifact) -> None:
    if not least <= offset <= update.size_bytes:
        msg = f"the coordinator answers offset {offset} for an update of {update.size_bytes} bytes"
        raise WireError(msg)
