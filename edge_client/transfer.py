"""Files in bounded chunks, both ways, each resumed at the offset that the receiving end holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge_client.task import Artifact
from reefleet.blobs import BlobStore
from reefleet.errors import PayloadTooLarge, TruncatedPayload, WireError
from reefleet.rpc.limits import CHUNK_BYTES

OWNER = "download"
# The coordinator holds a chunk of every device that is sending at once.
SENT_BYTES = CHUNK_BYTES // 2


class Source(Protocol):
    """Where chunks come from."""

    def fetch_chunk(self, digest: str, offset: int, max_bytes: int) -> tuple[bytes, int]:
        """Bytes from `offset` and the size of the whole file."""


class Sink(Protocol):
    """Where an update goes, chunk by chunk."""

    def open_update(self, lease: str, update: Artifact) -> int:
        """Offset to go on from."""

    def put_chunk(self, lease: str, digest: str, offset: int, data: bytes) -> int:
        """Offset of the next chunk."""


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
    while offset < artifact.size_bytes:
        check()
        wanted = min(CHUNK_BYTES, artifact.size_bytes - offset)
        data, total = source.fetch_chunk(artifact.sha256, offset, wanted)
        _require_sound(artifact, offset, data, total)
        offset = store.append(OWNER, artifact.sha256, offset, data, artifact.size_bytes)
    if not artifact.size_bytes:
        store.append(OWNER, artifact.sha256, 0, b"", 0)
    store.finish(OWNER, artifact.sha256)


def upload(
    sink: Sink,
    lease: str,
    update: Artifact,
    data: bytes,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Send what the coordinator does not hold of an update; raises WireError on a bad offset."""
    offset = sink.open_update(lease, update)
    while offset < update.size_bytes:
        check()
        _require_offset(offset, 0, update)
        chunk = data[offset : offset + SENT_BYTES]
        held = sink.put_chunk(lease, update.sha256, offset, chunk)
        _require_offset(held, offset + 1, update)
        offset = held


def _require_sound(artifact: Artifact, offset: int, data: bytes, total: int) -> None:
    if total != artifact.size_bytes:
        msg = f"blob {artifact.sha256} has {total} bytes, announced were {artifact.size_bytes}"
        raise TruncatedPayload(msg)
    if not data:
        msg = f"blob {artifact.sha256} ends at byte {offset} of {artifact.size_bytes}"
        raise TruncatedPayload(msg)
    if len(data) > CHUNK_BYTES or offset + len(data) > artifact.size_bytes:
        msg = f"a chunk of {len(data)} bytes of blob {artifact.sha256} is more than was asked for"
        raise PayloadTooLarge(msg)


def _require_offset(offset: int, least: int, update: Artifact) -> None:
    if not least <= offset <= update.size_bytes:
        msg = f"the coordinator answers offset {offset} for an update of {update.size_bytes} bytes"
        raise WireError(msg)
