"""A polite stop: SIGTERM and SIGINT raise a flag that the loop looks at between two steps."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

LONGEST_S = 60.0


class Stopped(Exception):
    """The work was left because a stop was asked for; nothing half-done was kept."""


class StopFlag:
    """Raised by a signal or by `raise_flag`; a wait on it ends early.

    A pipe, not threading.Event: an event's lock, taken by the waiting thread, would deadlock with
    a handler that runs in the same thread.
    """

    def __init__(
        self, beat: Callable[[], None] = lambda: None, longest_s: float = LONGEST_S
    ) -> None:
        """Start lowered; `beat` is called with each look, and at least every `longest_s`."""
        self.raised = False
        self._beat = beat
        self._longest_s = longest_s
        self._read, self._write = os.pipe()

    def listen(self) -> None:
        """Raise the flag on SIGTERM and SIGINT; call from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def raise_flag(self) -> None:
        """Ask for the stop."""
        if not self.raised:
            self.raised = True
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> None:
        """Sleep; raises Stopped as soon as the flag is up."""
        end = time.monotonic() + max(seconds, 0.0)
        while not self.raised and (left := end - time.monotonic()) > 0:
            select.select([self._read], [], [], min(left, self._longest_s))
            self._beat()
        self.check()

    def check(self) -> None:
        """Raise Stopped where a stop was asked for."""
        self._beat()
        if self.raised:
            raise Stopped

    def close(self) -> None:
        """Release the pipe."""
        os.close(self._read)
        os.close(self._write)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.raise_flag()
