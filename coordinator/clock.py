"""The two clocks a coordinator reads: one to write down, one that never jumps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`wall` is kept in the store and survives a restart; `monotonic` measures what is left."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
