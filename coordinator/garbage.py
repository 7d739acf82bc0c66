"""Blobs that nothing needs any more are deleted; what anything needs, never.

The store says what is needed. A blob may be stored just before the row that names it, so only those
go that were not needed for a while by the steady clock; and one that was stored again while it was
looked at is put back.
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from pathlib import Path

from coordinator.clock import Clock
from coordinator.config import StoragePolicy
from coordinator.store import Store
from reefleet.blobs import BlobStore
from reefleet.errors import StoreFull

logger = logging.getLogger(__name__)

TRASH = "trash"


class Garbage:
    """Collects the blobs of one run. Belongs to the thread that closes rounds."""

    def __init__(self, store: Store, blobs: BlobStore, policy: StoragePolicy, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._policy = policy
        self._clock = clock
        self._due = clock.monotonic()
        self._unneeded: dict[str, tuple[int, float]] = {}  # stored at (by the disk), seen at
        self._stale: dict[Path, tuple[int, float]] = {}  # the same of transfers nobody goes on with

    def collect_if_due(self) -> None:
        """Collect, but not more often than the policy says."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + self._policy.collect_every_s
            self.collect()

    def collect(self) -> int:
        """Retire what is over and delete blobs long not needed; the bytes won."""
        self._restore_all()  # a collection may have been killed
        self._retire()
        for path in self._long_unneeded(self._store.needed_blobs()):
            path.replace(self._trash(path.name))
        # From here on, whoever stores such a blob writes it anew.
        won = self._delete(self._store.needed_blobs()) + self._drop_stale()
        if won:
            logger.info("Blobs collected", extra={"bytes": won})
        return won

    def _retire(self) -> None:
        try:
            self._store.retire(self._policy.keep_versions)
        except StoreFull as error:
            # What is not needed already may make the room.
            logger.warning("Nothing retired", extra={"reason": str(error)})

    def _long_unneeded(self, needed: AbstractSet[str]) -> list[Path]:
        now = self._clock.monotonic()
        before, self._unneeded = self._unneeded, {}
        long = []
        for path in self._blobs.files():
            if path.name in needed:
                continue
            stored = path.stat().st_mtime_ns
            was_stored, since = before.get(path.name, (stored, now))
            since = since if was_stored == stored else now
            self._unneeded[path.name] = (stored, since)
            if now - since >= self._policy.grace_s:
                long.append(path)
        return long

    def _delete(self, needed: AbstractSet[str]) -> int:
        won = 0
        for path in self._trashed():
            found = path.stat()
            if path.name in needed or found.st_mtime_ns != self._unneeded[path.name][0]:
                path.replace(self._blobs.path(path.name))
            else:
                won += found.st_size
                path.unlink()
        return won

    def _drop_stale(self) -> int:
        """Delete what arrived of updates whose work is over and that nobody has sent on."""
        is_open, now = self._store.open_leases(), self._clock.monotonic()
        before, self._stale = self._stale, {}
        won = 0
        for path in list(self._blobs.partials()):
            if path.parent.name in is_open or not path.exists():
                continue
            found = path.stat()
            written, since = before.get(path, (found.st_mtime_ns, now))
            since = since if written == found.st_mtime_ns else now
            if now - since < self._policy.grace_s:
                self._stale[path] = (found.st_mtime_ns, since)
                continue
            won += found.st_size
            self._blobs.drop_partials(path.parent.name)
        return won

    def _restore_all(self) -> None:
        for path in self._trashed():
            path.replace(self._blobs.path(path.name))

    def _trash(self, name: str) -> Path:
        folder = self._blobs.root / TRASH
        folder.mkdir(exist_ok=True)
        return folder / name

    def _trashed(self) -> list[Path]:
        folder = self._blobs.root / TRASH
        return sorted(folder.iterdir()) if folder.is_dir() else []
