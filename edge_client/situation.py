"""What may keep this device from work now: power, heat, link, and whether others use it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.conditions import Conditions, read_conditions
from devices.tree import Tree

LOOK_EVERY_S = 30.0
IDLE_SHARE = 0.25  # of the processors that others may use on an idle device
_JIFFIES = 100.0  # of /proc/stat in a second, on every kernel that we meet
_IDLE, _WAITING = 3, 4  # columns of /proc/stat


def own_seconds() -> float:
    """Processor time of this process and its children so far."""
    return sum(os.times()[:4])


@dataclass(slots=True)
class Situation:
    """The device as it was at the last look; `look` looks again when that is too long ago."""

    tree: Tree = field(default_factory=Tree)
    monotonic: Callable[[], float] = time.monotonic
    own_seconds: Callable[[], float] = own_seconds
    _seen: tuple[Conditions, bool | None] = (Conditions(), None)
    _looked: float | None = None
    _spent: tuple[float, float, float] | None = None  # all, idle, own; seconds

    def look(self) -> tuple[Conditions, bool | None]:
        """The conditions, and whether the device is idle; None where that is not known yet."""
        now = self.monotonic()
        if self._looked is None or now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._seen = (read_conditions(self.tree), self._idle())
        return self._seen

    def _idle(self) -> bool | None:
        words = next(iter(self.tree.lines("proc/stat")), "").split()[1:]
        if len(words) <= _WAITING or not all(word.isdecimal() for word in words):
            return None
        ticks = [int(word) for word in words[:8]]  # what guests use is in the first two already
        idle = ticks[_IDLE] + ticks[_WAITING]
        now = (sum(ticks) / _JIFFIES, idle / _JIFFIES, self.own_seconds())
        before, self._spent = self._spent, now
        if before is None or now[0] <= before[0]:
            return None
        passed, unused, own = (later - earlier for later, earlier in zip(now, before, strict=True))
        return passed - unused - own < IDLE_SHARE * passed
