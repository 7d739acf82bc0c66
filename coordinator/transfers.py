"""How many transfers run at once: each holds a thread and chunks in memory as long as it lasts.

Few at a time are over sooner, and in less memory, than many side by side. Where links are slow
those few last long; then the others go on beside them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reefleet.errors import CoordinatorUnavailable

MOST = 48
PLACES = 6
PATIENCE_S = 3.0


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

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around a transfer; raises CoordinatorUnavailable where there are too many.

        A device that is told so comes back by itself, and small calls find a thread meanwhile.
        """
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
