"""How many bytes the next message of a transfer carries: few where the line is slow.

What is cut off in the middle of a message is lost, so a message should not be long under way. A
large one costs both ends less for each byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from reefleet.rpc.limits import CHUNK_BYTES

FIRST_BYTES = 1 << 18
LEAST_BYTES = 1 << 16
QUICK_S, SLOW_S = 0.2, 2.0


class Pace:
    """The sizes of one transfer's messages, one `next_bytes` before each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bytes = 0
        self._asked_at = 0.0

    def next_bytes(self) -> int:
        """Doubled where the last message was taken quickly, halved where that took long."""
        now = self._clock()
        passed_s = now - self._asked_at
        if not self._bytes:
            self._bytes = FIRST_BYTES
        elif passed_s < QUICK_S:
            self._bytes = min(2 * self._bytes, CHUNK_BYTES)
        elif passed_s > SLOW_S:
            self._bytes = max(self._bytes // 2, LEAST_BYTES)
        self._asked_at = now
        return self._bytes
