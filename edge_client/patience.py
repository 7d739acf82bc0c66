"""Waiting that ends early when the clock is set: what a wrong date had refused may work now."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_EVERY_S = 5.0
CLOCK_SET_S = 30.0  # a larger step of the date is no drift


def until_the_clock_is_set(
    wait: Callable[[float], None],
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Callable[[float], None]:
    """A pause that waits as `wait` does, or until the date has jumped."""

    def pause(seconds: float) -> None:
        ahead, end = wall() - monotonic(), monotonic() + seconds
        while (left := end - monotonic()) > 0:
            wait(min(left, LOOK_EVERY_S))
            if abs(wall() - monotonic() - ahead) > CLOCK_SET_S:
                return

    return pause
