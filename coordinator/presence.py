"""Which devices have called lately, and how long an idle one waits before it calls again.

Calls are kept in memory, so that asking for work costs no write to disk; the scheduler has them
written down together, for the next start and for people.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable

from coordinator.clock import Clock
from coordinator.store import Store

WRITE_EVERY_S = 30.0
# The longer a device has been idle, the less it is asked of it to come at once.
IDLE_SHARE = 0.5
JITTER = 0.25
CALLS_IN_WINDOW = 3  # of an idle device, so that a lost call or two do not make it absent


class Presence:
    """Last calls by device; safe to use from many threads.

    All idle devices together call about `idle_calls_per_s` times a second.
    """

    def __init__(
        self, store: Store, clock: Clock, window_s: float, idle_calls_per_s: float = 3.0
    ) -> None:
        self._store = store
        self._clock = clock
        self._window_s = window_s
        self._idle_calls_per_s = idle_calls_per_s
        self._rng = random.Random()  # noqa: S311  # jitter, not a secret
        self.reaches: Callable[[str], bool] = lambda _: False  # by a wake-up
        self._lock = threading.Lock()
        self._called: dict[str, float] = {}  # by the monotonic clock
        self._idle_since: dict[str, float] = {}
        self._unwritten: dict[str, float] = {}  # by the wall clock
        self._written = clock.monotonic() - WRITE_EVERY_S
        for device in store.devices():
            ago = clock.wall() - (device.last_seen_at or 0.0)
            if 0 <= ago <= window_s:
                self._called[device.device_id] = clock.monotonic() - ago

    def note(self, device_id: str) -> bool:
        """The device called; True where it had been away."""
        with self._lock:
            away = not self.is_present(device_id)
            self._called[device_id] = self._clock.monotonic()
            self._unwritten[device_id] = self._clock.wall()
            if away:
                self._written = -math.inf  # people wait to see it come
        return away

    def is_present(self, device_id: str) -> bool:
        """Whether the device called within the window."""
        called = self._called.get(device_id)
        return called is not None and self._clock.monotonic() - called <= self._window_s

    def last_call(self, device_id: str) -> float | None:
        """Wall time of its last call that is not written down yet."""
        return self._unwritten.get(device_id)

    def most(self) -> int:
        """No more devices than these are present."""
        return len(self._called)

    def working(self, device_id: str) -> None:
        """The device has got work: after that it asks often again."""
        self._idle_since.pop(device_id, None)

    def wait_ms(self, device_id: str, poll_ms: int) -> int:
        """How long an idle device waits: `poll_ms` at first, then longer with the fleet's size.

        One that a wake-up reaches has no need to ask, but for the sake of a wake-up that got lost.
        """
        now = self._clock.monotonic()
        with self._lock:
            idle_s = now - self._idle_since.setdefault(device_id, now)
            most_s = len(self._called) / self._idle_calls_per_s
            jitter = 1 + JITTER * (2 * self._rng.random() - 1)
        if self.reaches(device_id):
            return max(poll_ms, int(1000 * self._window_s / CALLS_IN_WINDOW * jitter))
        most_s = min(most_s, self._window_s / CALLS_IN_WINDOW)
        more_ms = 1000 * min(most_s, IDLE_SHARE * idle_s) - poll_ms
        return poll_ms + int(max(0.0, more_ms) * jitter)

    def write_if_due(self) -> None:
        """Write the last calls down, but not often; what cannot be written is written later."""
        now = self._clock.monotonic()
        if now - self._written >= WRITE_EVERY_S:
            self._written = now
            self.write()

    def write(self) -> None:
        """Write down the calls since the last time; raises StoreError."""
        with self._lock:
            seen, self._unwritten = self._unwritten, {}
            oldest = self._clock.monotonic() - self._window_s
            self._called = {name: at for name, at in self._called.items() if at >= oldest}
        try:
            self._store.set_seen(seen)
        except BaseException:
            with self._lock:
                self._unwritten = {**seen, **self._unwritten}
            raise
