"""How much memory this process has held at most."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_resident_bytes(status: Path = _STATUS) -> int | None:
    """Peak resident set in bytes, from the kernel's VmHWM; None where it is not told."""
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        words = value.split()
        if name == "VmHWM" and words and words[0].isdigit():
            return int(words[0]) * 1024
    return None
