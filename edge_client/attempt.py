"""What the client is at, noted before and read after a restart: who was killed for memory says so.

The kernel counts its kills for memory, those within control groups too. Where the count has risen
since the note was made, within the same boot, that was most likely us; twice at the same work is
taken for certain. Death by anything else is only told once it has happened a few times.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from devices.tree import Tree
from reefleet.blobs import write_atomic

logger = logging.getLogger(__name__)

FILE = "attempt.json"
MEMORY, CRASH = "memory", "crash"
MOST_KILLS, MOST_DEATHS = 2, 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """A piece of work, its deaths so far and those for memory, the kernel's count at its start."""

    lease: str
    deaths: int = 0
    killed: int = 0
    boot: str = ""
    kills: int | None = None


@dataclass(slots=True)
class Attempts:
    """The note of one device in `state`."""

    state: Path
    tree: Tree = Tree()  # noqa: RUF009  # frozen

    def begin(self, lease: str) -> None:
        """Note that work begins; it has not ended well before `end` is called."""
        before = self._died()
        deaths, killed = (before.deaths, before.killed) if before.lease == lease else (0, 0)
        note = Attempt(lease, deaths, killed, self._boot(), self._kills())
        write_atomic(self.state / FILE, json.dumps(asdict(note)).encode())

    def end(self) -> None:
        """The work ended, well or with an error that was caught."""
        (self.state / FILE).unlink(missing_ok=True)

    def verdict(self) -> tuple[str, str] | None:
        """Lease and cause of death of work that should be given up; None where there is none."""
        note = self._died()
        if note.killed >= MOST_KILLS:
            return note.lease, MEMORY
        return (note.lease, CRASH) if note.deaths >= MOST_DEATHS else None

    def _died(self) -> Attempt:
        """The last note with the death that it tells of; an empty one where there is none."""
        try:
            note = Attempt(**json.loads((self.state / FILE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return Attempt("")
        kills, same_boot = self._kills(), bool(note.boot) and note.boot == self._boot()
        rose = None not in {kills, note.kills} and (kills or 0) > (note.kills or 0)
        killed = note.killed + (same_boot and rose)
        return replace(note, deaths=note.deaths + 1, killed=killed)

    def _boot(self) -> str:
        return self.tree.text("proc/sys/kernel/random/boot_id")

    def _kills(self) -> int | None:
        word = self.tree.field("proc/vmstat", "oom_kill", " ")
        return int(word) if word.isdecimal() else None
