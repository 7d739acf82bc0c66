"""What devices last said over the broker, in memory: they say it again within a minute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from reefleet.vitals import Vitals


@dataclass(frozen=True, slots=True)
class Told:
    """What one device said last; `at` is wall time by the coordinator's clock, None for nothing."""

    is_online: bool = False
    at: float | None = None
    vitals: Vitals = Vitals()  # noqa: RUF009  # frozen


class Pulse:
    """One entry a device that `is_member` knows; safe to use from many threads."""

    def __init__(self, is_member: Callable[[str], bool]) -> None:
        self._is_member = is_member
        self._lock = threading.Lock()
        self._told: dict[str, Told] = {}
        self._is_up = False

    @property
    def is_up(self) -> bool:
        """Whether the broker can be reached."""
        return self._is_up

    def set_up(self, *, is_up: bool) -> None:
        """The connection to the broker came or went; the broker tells again who is online."""
        with self._lock:
            self._is_up = is_up
            self._told = {n: replace(told, is_online=False) for n, told in self._told.items()}

    def presence(self, device_id: str, *, is_online: bool) -> bool:
        """A device came or went; False for a stranger, of whom nothing is kept."""
        return self._change(device_id, lambda told: replace(told, is_online=is_online))

    def report(self, device_id: str, vitals: Vitals, at: float) -> bool:
        """A device reported; False for a stranger, of whom nothing is kept."""
        return self._change(device_id, lambda told: replace(told, vitals=vitals, at=at))

    def forget(self, device_id: str) -> None:
        """The device is no member any more."""
        with self._lock:
            self._told.pop(device_id, None)

    def told(self, device_id: str) -> Told | None:
        """What a device said last; None where it said nothing."""
        return self._told.get(device_id)

    def is_reached(self, device_id: str) -> bool:
        """Whether a wake-up would reach the device."""
        told = self._told.get(device_id)
        return self._is_up and told is not None and told.is_online

    def online(self) -> int | None:
        """How many devices are online; None where the broker cannot tell."""
        return sum(told.is_online for told in self.all()) if self._is_up else None

    def all(self) -> list[Told]:
        """What every device said last."""
        with self._lock:
            return list(self._told.values())

    def _change(self, device_id: str, change: Callable[[Told], Told]) -> bool:
        if device_id not in self._told and not self._is_member(device_id):
            return False
        with self._lock:
            self._told[device_id] = change(self._told.get(device_id, Told()))
        return True
