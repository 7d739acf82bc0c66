"""A polite stop: SIGTERM and SIGINT raise a flag that the loop looks at between two steps."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

LONGEST_S = 60.0
MOST_NUDGES = 1 << 16  # as many as a pipe holds


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
        self._nudged, self._nudging = os.pipe()
        os.set_blocking(self._nudging, False)  # the library's own signature

    def listen(self) -> None:
        """Raise the flag on SIGTERM and SIGINT; call from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def raise_flag(self) -> None:
        """Ask for the stop."""
        if not self.raised:
            self.raised = True
            os.write(self._write, b"!")

    def nudge(self) -> None:
        """End the `idle` under way, or the next one; safe in any thread."""
        with suppress(BlockingIOError):  # nobody has been idle for long: one nudge is enough
            os.write(self._nudging, b"!")

    def idle(self, seconds: float) -> None:
        """Sleep until `seconds` are over or somebody nudges; raises Stopped as `wait` does."""
        end = time.monotonic() + max(seconds, 0.0)
        while not self.raised and (left := end - time.monotonic()) > 0:
            handles = [self._read, self._nudged]
            ready, _, _ = select.select(handles, [], [], min(left, self._longest_s))
            self._beat()
            if self._nudged in ready:
                os.read(self._nudged, MOST_NUDGES)
                break
        self.check()

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
        """Release the pipes."""
        for handle in (self._read, self._write, self._nudged, self._nudging):
            os.close(handle)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.raise_flag()
