"""What processes use, read from /proc: processor seconds, resident memory and its peak."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


def used_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int, name: str = "VmRSS") -> float:
    """Resident memory; `name` VmHWM is its peak."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def peak_mib(pid: int) -> float:
    """The most it ever had resident."""
    return resident_mib(pid, "VmHWM")


def share_mib(pid: int) -> float:
    """Resident memory in which a page that several processes share counts for its part (Pss)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text(encoding="utf-8").split())
    return found


def verdict(*, good: bool) -> str:
    """How a floor is shown."""
    return "pass" if good else "MISS"
