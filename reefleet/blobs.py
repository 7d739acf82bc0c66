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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

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
_MOST_REMEMBERED = 4096

_Key = TypeVar("_Key")
_Fact = TypeVar("_Fact")


def sha256_hex(*parts: bytes | memoryview) -> str:
    """Digest of `parts` one after another, as 64 lower-case hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def write_atomic(path: Path, *parts: bytes | memoryview) -> None:
    """Put `parts` at `path` whole or not at all, durably; raises StoreFull or StoreError."""
    with _temporary(path.parent) as (stream, temporary):
        stream.writelines(parts)
        _publish(stream, temporary, path)


class _Remembered(dict[_Key, _Fact]):
    """What was found out about files; the oldest is forgotten when it is too much."""

    def __setitem__(self, key: _Key, fact: _Fact) -> None:
        super().__setitem__(key, fact)
        while len(self) > _MOST_REMEMBERED:
            self.pop(next(iter(self)), None)


@dataclass(frozen=True, slots=True)
class BlobStore:
    """Blobs under `root`, spread over folders by the first two digits of their digest.

    A blob is held against its digest once, and again where its file has changed since; a transfer
    is hashed as it arrives.
    """

    root: Path
    _known: _Remembered[str, tuple[int, int]] = field(
        default_factory=_Remembered, compare=False, repr=False
    )
    _arriving: _Remembered[Path, tuple[int, Any]] = field(
        default_factory=_Remembered, compare=False, repr=False
    )

    def path(self, digest: str) -> Path:
        """Where the blob lies or would lie; raises WireError for text that is no sha256."""
        _require_digest(digest)
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the whole blob is here."""
        return self.path(digest).is_file()

    def renew(self, digest: str) -> bool:
        """Whether the whole blob is here; if so it is as young as one stored now."""
        path = self.path(digest)
        try:
            was_known = self._known.get(digest) == _mark(path)
            os.utime(path)
            if was_known:
                self._known[digest] = _mark(path)
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

    def read(self, digest: str) -> bytes:
        """The whole blob; raises MissingFile, or ChecksumMismatch where the disk has changed it."""
        with _found(digest):
            return self.checked(digest).read_bytes()

    def checked(self, digest: str) -> Path:
        """The blob's file, after a look at its content; raises as `read`."""
        path = self.path(digest)
        with _found(digest):
            mark = _mark(path)
            if self._known.get(digest) != mark:
                with path.open("rb") as stream:
                    found = digest_of(stream)
                if found != digest:
                    msg = f"blob {digest} has been altered on disk; delete {path}"
                    raise ChecksumMismatch(msg)
                self._known[digest] = mark
        return path

    def piece(self, digest: str, offset: int, size: int) -> bytes:
        """So many bytes of the blob from `offset` on, fewer at its end; raises MissingFile."""
        if offset < 0:
            msg = f"bytes from offset {offset} cannot be read"
            raise WireError(msg)
        with _found(digest), self.path(digest).open("rb", 0) as stream:
            return os.pread(stream.fileno(), size, offset)

    def set_aside(self, digest: str) -> None:
        """Give the memory in which the system keeps a blob's pages to others; it stays on disk."""
        with suppress(FileNotFoundError), self.path(digest).open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def put(self, *parts: bytes | memoryview) -> str:
        """Store `parts` durably as one blob; its digest. Storing it again changes nothing."""
        digest = sha256_hex(*parts)
        if not self.renew(digest):
            write_atomic(self.path(digest), *parts)
            self._known[digest] = _mark(self.path(digest))
        return digest

    def put_file(self, path: Path) -> str:
        """Store a copy of the file and return its digest; raises MissingFile."""
        if not path.is_file():
            msg = f"there is no file {path}"
            raise MissingFile(msg)
        with path.open("rb") as source, _temporary(self.root) as (stream, temporary):
            shutil.copyfileobj(source, stream, _BUFFER_BYTES)
            stream.seek(0)
            digest = digest_of(stream)
            _publish(stream, temporary, self.path(digest))
        return digest

    def delete(self, digest: str) -> None:
        """Forget a blob, whether or not it is here."""
        self._known.pop(digest, None)
        with _disk(self.path(digest)):
            self.path(digest).unlink(missing_ok=True)

    def partial_size(self, owner: str, digest: str) -> int:
        """Bytes gathered so far of `owner`'s transfer; the offset to go on from."""
        try:
            return self._partial(owner, digest).stat().st_size
        except FileNotFoundError:
            return 0

    def append(
        self, owner: str, digest: str, offset: int, data: bytes | memoryview, total: int
    ) -> int:
        """Add a chunk of a transfer of `total` bytes and return the bytes gathered.

        A chunk that is already here may be repeated. Raises WireError for a gap, PayloadTooLarge
        beyond `total`, ChecksumMismatch where a repeat differs, StoreFull.
        """
        path = self._partial(owner, digest)
        if (end := offset + len(data)) > total:
            msg = f"the chunk ends at byte {end} of a transfer of {total}"
            raise PayloadTooLarge(msg)
        with _disk(path), _to_write(path, is_new=offset == 0) as handle:
            size = os.fstat(handle).st_size if handle >= 0 else 0
            if not 0 <= offset <= size:
                msg = f"a chunk at offset {offset} does not follow the {size} bytes held"
                raise WireError(msg)
            # Written at its offset, not appended: two calls with one chunk leave one chunk.
            held = b"" if offset == size else os.pread(handle, len(data), offset)
            if held != data[: len(held)]:
                msg = f"the chunk at offset {offset} differs from the one received before"
                raise ChecksumMismatch(msg)
            fresh = memoryview(data)[len(held) :]
            # Hashed first: what comes from another processor's cache is slow to copy.
            self._hash(path, offset + len(held), fresh)
            _write_at(handle, offset + len(held), fresh)
        return max(size, end)

    def _hash(self, path: Path, offset: int, fresh: memoryview) -> None:
        """Go on hashing a transfer where everything before `offset` has been hashed.

        What could not be written after all leaves a length that `finish` does not believe.
        """
        if not fresh:
            return
        done, digest = self._arriving.pop(path, (0, None)) if offset else (0, hashlib.sha256())
        if digest is not None and done == offset:
            digest.update(fresh)
            self._arriving[path] = (offset + len(fresh), digest)

    def finish(self, owner: str, digest: str) -> None:
        """Turn a transfer into a durable blob; nothing to do where the blob is here already.

        Raises ChecksumMismatch, and the transfer starts over, where the bytes are others than
        announced; MissingFile where nothing was transferred.
        """
        partial, path = self._partial(owner, digest), self.path(digest)
        if self.renew(digest):
            self._forget(partial)
            return
        with _found(digest), partial.open("r+b") as stream:
            done, hashed = self._arriving.pop(partial, (-1, None))
            is_hashed = done == os.fstat(stream.fileno()).st_size
            found = hashed.hexdigest() if hashed and is_hashed else digest_of(stream)
            if found == digest:
                with _disk(path):
                    _publish(stream, partial, path)
                self._known[digest] = _mark(path)
                return
        self._forget(partial)
        msg = f"the bytes received have sha256 {found}, announced was {digest}"
        raise ChecksumMismatch(msg)

    def _forget(self, partial: Path) -> None:
        self._arriving.pop(partial, None)
        partial.unlink(missing_ok=True)

    def drop_partials(self, owner: str) -> None:
        """Forget all unfinished transfers of `owner`."""
        owned = self._owned(owner)
        for path in [path for path in list(self._arriving) if path.parent == owned]:
            self._arriving.pop(path, None)
        shutil.rmtree(owned, ignore_errors=True)

    def _partial(self, owner: str, digest: str) -> Path:
        _require_digest(digest)
        return self._owned(owner) / digest

    def _owned(self, owner: str) -> Path:
        if not _OWNER.fullmatch(owner):
            msg = f"{owner[:80]!r} cannot own a transfer; use letters, digits, '.', '_' and '-'"
            raise InputError(msg)
        return self.root / "partial" / owner


def _require_digest(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        msg = f"{digest[:80]!r} is not a sha256 of 64 lower-case hex digits"
        raise WireError(msg)


@contextmanager
def _to_write(path: Path, *, is_new: bool) -> Iterator[int]:
    """A handle of the file, made with its folder where it may be new; -1 where it is not here."""
    flags = os.O_RDWR | os.O_CREAT if is_new else os.O_RDWR
    if is_new:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, flags, 0o600)
    except FileNotFoundError:
        yield -1
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _mark(path: Path) -> tuple[int, int]:
    """Changes whenever the file is written."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _write_at(handle: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


def digest_of(stream: BinaryIO) -> str:
    """Digest of what is left of a file."""
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
