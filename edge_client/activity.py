"""What the client is doing and what it last measured, for whoever asks; written by its own loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from devices.conditions import read_conditions
from devices.tree import Tree
from reefleet.report import EarlyExitReport
from reefleet.vitals import Vitals

IDLE = "idle"


@dataclass(slots=True)
class Activity:
    """Plain values, each replaced as a whole, so that another thread may read them."""

    doing: str = IDLE
    loss: float | None = None
    early_exit: EarlyExitReport | None = None

    @contextmanager
    def at(self, kind: str) -> Iterator[None]:
        """Be at work of this kind inside the block."""
        self.doing = kind
        try:
            yield
        finally:
            self.doing = IDLE

    def vitals(self, tree: Tree) -> Vitals:
        """Together with what the board shows now."""
        seen, early = read_conditions(tree), self.early_exit
        return Vitals(
            doing=self.doing,
            temperature_c=seen.temperature_c,
            throttled=seen.throttled,
            memory_available_mib=_mib(tree, "proc/meminfo", "MemAvailable"),
            resident_mib=_mib(tree, "proc/self/status", "VmRSS"),
            loss=self.loss,
            answer_ms=early.p50_ms if early else None,
            exit_share=early.exit_share if early else (),
        )


def _mib(tree: Tree, file: str, name: str) -> int | None:
    words = tree.field(file, name).split()
    return int(words[0]) >> 10 if words and words[0].isdecimal() else None
