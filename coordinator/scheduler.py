"""The one thread that advances the rounds: at once when something happened, and at deadlines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from coordinator.rounds import Rounds

logger = logging.getLogger(__name__)

TICK_S = 5.0
BACK_OFF_S = 2.0


class Scheduler:
    """Runs `rounds.advance` until stopped; `wake` may be called from any thread."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._review: Callable[[], None] = lambda: None
        self._event = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def start(self, review: Callable[[], None]) -> None:
        """Begin; `review` is called after each advance to look at the rounds that closed."""
        self._review = review
        self._thread.start()

    def wake(self) -> None:
        """Look again soon: something may be due."""
        self._event.set()

    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End after the step under way."""
        self._stopping = True
        self._event.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._event.clear()
            pause_s = BACK_OFF_S
            try:
                self._rounds.advance()
                self._review()
                pause_s = min(TICK_S, max(0.0, self._rounds.seconds_left()))
            except Exception:
                logger.exception("The round could not be advanced; trying again")
            self._event.wait(pause_s)
