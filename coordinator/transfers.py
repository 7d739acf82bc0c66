"""How many transfers run at once: each holds a thread and chunks in memory as long as it lasts.

Few at a time are over sooner, and in less memory, than many side by side. Where links are slow
those few last long; then the others go on beside them.

A device has one transfer: the next one ends the one before, which its end may have left without a
word. So nobody holds more than one thread by staying silent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reefleet.errors import CoordinatorUnavailable

MOST = 48
PLACES = 6
PATIENCE_S = 10.0


class Transfers:
    """The places of one coordinator."""

    def __init__(
        self, most: int = MOST, places: int = PLACES, patience_s: float = PATIENCE_S
    ) -> None:
        """So many at most, and so many at a time unless that makes one wait for `patience_s`."""
        self._most = most
        self._threads = threading.BoundedSemaphore(most)
        self._places = threading.BoundedSemaphore(places)
        self._patience_s = patience_s
        self._ends: dict[str, Callable[[], object]] = {}  # by device, how its transfer is ended
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, device_id: str, end: Callable[[], object]) -> Iterator[None]:
        """Around a transfer, which `end` ends; raises CoordinatorUnavailable for one too many.

        A device that is told so comes back by itself, and small calls find a thread meanwhile.
        """
        with self._lock:
            earlier, self._ends[device_id] = self._ends.get(device_id), end
        if earlier:
            earlier()
        try:
            with self._place():
                yield
        finally:
            with self._lock:
                if self._ends.get(device_id) is end:
                    del self._ends[device_id]

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._threads.acquire(blocking=False):
            msg = f"{self._most} transfers are under way; try again in a moment"
            raise CoordinatorUnavailable(msg)
        has_place = False
        try:
            has_place = self._places.acquire(timeout=self._patience_s)
            yield
        finally:
            if has_place:
                self._places.release()
            self._threads.release()
