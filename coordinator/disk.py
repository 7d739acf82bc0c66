"""The disk that the blobs are on: uploads are refused while too little of it can be written.

What is kept in reserve lets rounds that are under way be finished and the state be written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reefleet.errors import StoreFull

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk under `root`, of which `reserve_bytes` are not for uploads."""

    root: Path
    reserve_bytes: int

    def free_bytes(self) -> int:
        """What a program may still write."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def require_room(self, size_bytes: int) -> None:
        """Raise StoreFull where so many bytes cannot be written, or would touch the reserve."""
        trouble = self.trouble()
        if not trouble and self.free_bytes() - size_bytes < self.reserve_bytes:
            trouble = f"{size_bytes} bytes more would leave too little free"
        if trouble:
            msg = f"no room on the coordinator's disk: {trouble}"
            raise StoreFull(msg)

    def trouble(self) -> str:
        """What is wrong with the disk; '' where nothing is."""
        try:
            # Its flags do not tell of a file system that the kernel stopped after a fault.
            os.utime(self.root)
        except OSError as error:
            return f"{self.root} cannot be written ({error.strerror}); uploads are refused"
        free = self.free_bytes()
        if free >= self.reserve_bytes:
            return ""
        shown = f"{free / _MIB:.1f} MiB free, {self.reserve_bytes / _MIB:.0f} MiB kept in reserve"
        return f"{shown}; uploads are refused"
