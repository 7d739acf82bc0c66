"""The one thread that advances the rounds: at once when something happened, and at deadlines."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from coordinator.rounds import Rounds
from reefleet.errors import StoreError

logger = logging.getLogger(__name__)

TICK_S = 5.0
BACK_OFF_S = 2.0
LONG_S = 60.0  # a step that takes longer is worth a word


class Scheduler:
    """Runs `rounds.advance` until stopped; `wake` may be called from any thread."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._review: Callable[[], None] = lambda: None
        self._event = threading.Event()
        self._stopping = False
        self._failed: dict[str, str] = {}
        self._step_began: float | None = None
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

    def trouble(self) -> str:
        """Why the run does not go on; '' where it does."""
        began = self._step_began
        busy_s = time.monotonic() - began if began is not None else 0.0
        if busy_s > LONG_S:
            return f"busy for {busy_s:.0f} s with one step; is the disk or the database slow?"
        return next(iter(self._failed.values()), "")

    def stop(self) -> None:
        """End after the step under way."""
        self._stopping = True
        self._event.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._event.clear()
            # The second also where the first fails: it makes room on a full disk.
            advanced = self._step("advance", self._rounds.advance)
            reviewed = self._step("review", self._review)
            if advanced and reviewed:
                pause_s = min(TICK_S, max(0.0, self._seconds_left()))
            else:
                pause_s = BACK_OFF_S
            self._event.wait(pause_s)

    def _seconds_left(self) -> float:
        try:
            return self._rounds.seconds_left()
        except StoreError:
            return BACK_OFF_S

    def _step(self, name: str, act: Callable[[], None]) -> bool:
        self._step_began = time.monotonic()
        try:
            act()
        except Exception as error:  # noqa: BLE001  # the outermost loop must outlive its work
            self._note(name, error)
            return False
        else:
            if self._failed.pop(name, None):
                logger.info("The run goes on", extra={"step": name})
            return True
        finally:
            self._step_began = None

    def _note(self, name: str, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if self._failed.get(name) != reason:  # not again every other second
            trace = None if isinstance(error, StoreError) else error
            facts = {"step": name, "reason": reason}
            logger.error("The run stands still", extra=facts, exc_info=trace)
        self._failed[name] = reason
