"""Which devices have called lately, so that no round waits for boards that are switched off."""

from __future__ import annotations

from coordinator.clock import Clock
from coordinator.store import Store

WRITE_EVERY_S = 30.0  # a poll must not cost a write to disk


class Presence:
    """Last calls by device; a hint is kept in the store, for the next start and for people."""

    def __init__(self, store: Store, clock: Clock, window_s: float) -> None:
        self._store = store
        self._clock = clock
        self._window_s = window_s
        self._called: dict[str, float] = {}  # by the monotonic clock
        self._written: dict[str, float] = {}
        for device in store.devices():
            ago = clock.wall() - (device.last_seen_at or 0.0)
            if 0 <= ago <= window_s:
                self._called[device.device_id] = clock.monotonic() - ago

    def note(self, device_id: str) -> bool:
        """The device called; True where it had been away."""
        away = not self.is_present(device_id)
        now = self._clock.monotonic()
        self._called[device_id] = now
        if now - self._written.get(device_id, -WRITE_EVERY_S) >= WRITE_EVERY_S:
            self._written[device_id] = now
            self._store.set_seen(device_id, self._clock.wall())
        return away

    def is_present(self, device_id: str) -> bool:
        """Whether the device called within the window."""
        called = self._called.get(device_id)
        return called is not None and self._clock.monotonic() - called <= self._window_s
