"""How glibc keeps the daemon's memory: one arena for all threads, so that what is freed is reused.

With an arena for each thread a coordinator of ten devices and 5.7 million weights peaked at
595 MiB; with one, at 218 MiB and no slower.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # from malloc.h


def share_one_arena() -> None:
    """Call before the first thread starts; without effect where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
