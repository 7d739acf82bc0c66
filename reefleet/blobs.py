"""Files by digest: written to a temporary name, fsynced, renamed; chunks arrive resumably.

A blob that `has` answers for is whole and durable. Chunks of a transfer gather under
`partial/<owner>/` and become a blob only when their sha256 is the one announced.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from reefleet.errors import (
    ChecksumMismatch,
    InputError,
    MissingFile,
    PayloadTooLarge,
    StoreError,
    StoreFull,
    WireError,
)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_BUFFER_BYTES = 1 << 20


def sha256_hex(data: bytes | memoryview) -> str:
    """Digest of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path` whole or not at all, durably; raises StoreFull or StoreError."""
    with _temporary(path.parent) as (stream, temporary):
        stream.write(data)
        _publish(stream, temporary, path)


@dataclass(frozen=True, slots=True)
class BlobStore:
    """Blobs under `root`, spread over folders by the first two digits of their digest."""

    root: Path

    def path(self, digest: str) -> Path:
        """Where the blob lies or would lie; raises WireError for text that is no sha256."""
        if not _DIGEST.fullmatch(digest):
            msg = f"{digest[:80]!r} is not a sha256 of 64 lower-case hex digits"
            raise WireError(msg)
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the whole blob is here."""
        return self.path(digest).is_file()

    def renew(self, digest: str) -> bool:
        """Whether the whole blob is here; if so it is as young as one stored now."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def files(self) -> Iterator[Path]:
        """All whole blobs; the name of each is its digest."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            yield from (path for path in folder.iterdir() if _DIGEST.fullmatch(path.name))

    def partials(self) -> Iterator[Path]:
        """All unfinished transfers; the name of the folder of each is its owner."""
        yield from (self.root / "partial").glob("*/*")

    def size(self, digest: str) -> int:
        """Bytes of the blob; raises MissingFile."""
        with _found(digest):
            return self.path(digest).stat().st_size

    def read(self, digest: str, *, is_fresh: bool = False) -> bytes:
        """The whole blob; raises MissingFile, or ChecksumMismatch where the disk has changed it.

        A fresh one was held against its digest a moment ago and is not again.
        """
        with _found(digest):
            data = self.path(digest).read_bytes()
        if not is_fresh and sha256_hex(data) != digest:
            msg = f"blob {digest} has been altered on disk; delete {self.path(digest)}"
            raise ChecksumMismatch(msg)
        return data

    def read_chunk(self, digest: str, offset: int, max_bytes: int) -> bytes:
        """Up to `max_bytes` bytes from `offset`, empty past the end; raises MissingFile."""
        if offset < 0 or max_bytes < 0:
            msg = f"a chunk of {max_bytes} bytes at offset {offset} cannot be read"
            raise WireError(msg)
        with _found(digest), self.path(digest).open("rb") as stream:
            stream.seek(offset)
            return stream.read(max_bytes)

    def put(self, data: bytes | memoryview) -> str:
        """Store `data` durably and return its digest; storing it again changes nothing."""
        digest = sha256_hex(data)
        if not self.renew(digest):
            write_atomic(self.path(digest), data)
        return digest

    def put_file(self, path: Path) -> str:
        """Store a copy of the file and return its digest; raises MissingFile."""
        if not path.is_file():
            msg = f"there is no file {path}"
            raise MissingFile(msg)
        with path.open("rb") as source, _temporary(self.root) as (stream, temporary):
            shutil.copyfileobj(source, stream, _BUFFER_BYTES)
            stream.seek(0)
            digest = _digest_of(stream)
            _publish(stream, temporary, self.path(digest))
        return digest

    def delete(self, digest: str) -> None:
        """Forget a blob, whether or not it is here."""
        with _disk(self.path(digest)):
            self.path(digest).unlink(missing_ok=True)

    def partial_size(self, owner: str, digest: str) -> int:
        """Bytes gathered so far of `owner`'s transfer; the offset to go on from."""
        try:
            return self._partial(owner, digest).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, owner: str, digest: str, offset: int, data: bytes, total: int) -> int:
        """Add a chunk of a transfer of `total` bytes and return the bytes gathered.

        A chunk that is already here may be repeated. Raises WireError for a gap, PayloadTooLarge
        beyond `total`, ChecksumMismatch where a repeat differs, StoreFull.
        """
        path = self._partial(owner, digest)
        size = self.partial_size(owner, digest)
        if not 0 <= offset <= size:
            msg = f"a chunk at offset {offset} does not follow the {size} bytes held"
            raise WireError(msg)
        if (end := offset + len(data)) > total:
            msg = f"the chunk ends at byte {end} of a transfer of {total}"
            raise PayloadTooLarge(msg)
        with _disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written at its offset, not appended: two calls with one chunk leave one chunk.
            with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", 0) as stream:
                held = b"" if offset == size else os.pread(stream.fileno(), len(data), offset)
                if held != data[: len(held)]:
                    msg = f"the chunk at offset {offset} differs from the one received before"
                    raise ChecksumMismatch(msg)
                _write_at(stream.fileno(), offset + len(held), memoryview(data)[len(held) :])
        return max(size, end)

    def finish(self, owner: str, digest: str) -> None:
        """Turn a transfer into a durable blob; nothing to do where the blob is here already.

        Raises ChecksumMismatch, and the transfer starts over, where the bytes are others than
        announced; MissingFile where nothing was transferred.
        """
        partial, path = self._partial(owner, digest), self.path(digest)
        if self.renew(digest):
            partial.unlink(missing_ok=True)
            return
        with _found(digest), partial.open("r+b") as stream:
            if (found := _digest_of(stream)) == digest:
                with _disk(path):
                    _publish(stream, partial, path)
                return
        partial.unlink(missing_ok=True)
        msg = f"the bytes received have sha256 {found}, announced was {digest}"
        raise ChecksumMismatch(msg)

    def drop_partials(self, owner: str) -> None:
        """Forget all unfinished transfers of `owner`."""
        shutil.rmtree(self._owned(owner), ignore_errors=True)

    def _partial(self, owner: str, digest: str) -> Path:
        return self._owned(owner) / self.path(digest).name

    def _owned(self, owner: str) -> Path:
        if not _OWNER.fullmatch(owner):
            msg = f"{owner[:80]!r} cannot own a transfer; use letters, digits, '.', '_' and '-'"
            raise InputError(msg)
        return self.root / "partial" / owner


def _write_at(handle: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


def _digest_of(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := stream.read(_BUFFER_BYTES):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in `folder` that is gone afterwards unless it was renamed."""
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".tmp-")
        try:
            with os.fdopen(handle, "w+b") as stream:
                yield stream, Path(name)
        finally:
            with suppress(FileNotFoundError):
                Path(name).unlink()


def _publish(stream: BinaryIO, temporary: Path, path: Path) -> None:
    stream.flush()
    os.fsync(stream.fileno())
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _found(digest: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        msg = f"blob {digest} is not here"
        raise MissingFile(msg) from error


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            msg = f"no room on disk for {path}; free some space and try again"
            raise StoreFull(msg) from error
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error
