"""How many failures an address may cause: one budget an address, refilled steadily."""

from __future__ import annotations

import threading
from collections import OrderedDict

from coordinator.clock import Clock
from reefleet.errors import Rejected

MAX_ADDRESSES = 10_000
WINDOW_S = 60.0


class FailureLimit:
    """At most `failures` a minute of each address; memory is bounded by the oldest falling out."""

    def __init__(self, failures: int, clock: Clock, what: str = "enrollments") -> None:
        self._failures = failures
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address: (used, at)

    def check(self, address: str) -> None:
        """Raise Rejected where the address has used up its failures."""
        with self._lock:
            used = self._now_used(address)
        if used > self._failures - 1:
            wait_s = (used - self._failures + 1) * WINDOW_S / self._failures
            msg = f"too many refused {self._what} from here; try again in {max(1, wait_s):.0f} s"
            raise Rejected(msg)

    def failed(self, address: str) -> None:
        """Count a failure of the address."""
        with self._lock:
            used = self._now_used(address)
            self._used.pop(address, None)
            self._used[address] = (used + 1.0, self._clock.monotonic())
            if len(self._used) > MAX_ADDRESSES:
                self._used.popitem(last=False)

    def _now_used(self, address: str) -> float:
        used, at = self._used.get(address, (0.0, 0.0))
        return max(0.0, used - (self._clock.monotonic() - at) * self._failures / WINDOW_S)
