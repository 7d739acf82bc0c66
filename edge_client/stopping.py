"""A polite stop: SIGTERM and SIGINT raise a flag that the loop looks at between two steps."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class Stopped(Exception):
    """The work was left because a stop was asked for; nothing half-done was kept."""


class StopFlag:
    """Raised by a signal or by `raise_flag`; a wait on it ends early.

    A pipe, not threading.Event: an event's lock, taken by the waiting thread, would deadlock with
    a handler that runs in the same thread.
    """

    def __init__(self) -> None:
        """Start lowered."""
        self.raised = False
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
        if not self.raised:
            select.select([self._read], [], [], max(seconds, 0.0))
        self.check()

    def check(self) -> None:
        """Raise Stopped where a stop was asked for."""
        if self.raised:
            raise Stopped

    def close(self) -> None:
        """Release the pipe."""
        os.close(self._read)
        os.close(self._write)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.raise_flag()
