"""Memory of this process: how much it has held at most, and when freed memory goes back."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from pathlib import Path

logger = logging.getLogger(__name__)

_STATUS = Path("/proc/self/status")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
_KEPT_BYTES, _LARGEST_BYTES = 1 << 30, 32 << 20


def keep_freed() -> bool:
    """Have the heap keep what is freed until `give_back`; False where the C library cannot.

    A step frees all its tensors and the next one takes as many again. Given back in between, each
    page costs a fault: a tenth to a third of a step's time. The peak is the same either way.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES) + mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    return bool(taken == 2)


def give_back() -> None:
    """Return freed memory to the system, as far as the C library can."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def start_anew() -> None:
    """Become the same command again in the same process: it begins with an idle client's memory.

    Arrays, graphs and the libraries that run them can be given back in no other way.
    """
    logger.info("starting anew", extra={"resident_peak_bytes": peak_resident_bytes()})
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # this very command


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
