"""When an open round ends: told by the wall clock, kept by the steady one."""

from __future__ import annotations

import math

from coordinator import records as r
from coordinator.clock import Clock

RESTART_GRACE_S = 60.0  # nobody could push while the coordinator was down


class Deadline:
    """Of one round at a time, each of which may last `most_s`."""

    def __init__(self, most_s: float, clock: Clock) -> None:
        self._most_s = most_s
        self._clock = clock
        self._due: tuple[int, float] = (0, math.inf)  # round, end by the monotonic clock

    def left_s(self, current: r.Round) -> float:
        """Seconds until the round ends; a jump of the wall clock changes nothing."""
        number, end = self._due
        if number != current.number:
            # Right after opening, or after a restart, when only the wall clock knows: trust it
            # within bounds, because it may have jumped.
            least = min(RESTART_GRACE_S, self._most_s)
            left = min(max(current.deadline_at - self._clock.wall(), least), self._most_s)
            end = self._clock.monotonic() + left
            self._due = (current.number, end)
        return end - self._clock.monotonic()
