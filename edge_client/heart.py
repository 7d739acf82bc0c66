"""Signs of life to systemd, as often as it wants them and no oftener."""

from __future__ import annotations

import time
from collections.abc import Callable

from reefleet import notify

BEATS = 3  # in the time that systemd waits for one


class Heart:
    """Says that the client is alive; between two beats it may be asked as often as one likes."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        limit_s = notify.watchdog_s()
        self._every_s = limit_s / BEATS if limit_s else None
        self._monotonic = monotonic
        self._last = monotonic()

    def beat(self) -> None:
        """Say so where it is time."""
        if self._every_s is None:
            return
        now = self._monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            notify.tell(notify.ALIVE)
