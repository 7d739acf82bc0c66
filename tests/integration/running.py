"""Processes under test: `reefleet` commands that are started, watched, killed, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 180.0  # generous: it passes only where something is wrong
POLL_S = 0.02

T = TypeVar("T")


def until(found: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first true value of `found`; fails the test where it takes too long."""
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while not (value := found()):
        if time.monotonic() > end:
            pytest.fail(f"{what} did not happen within {deadline_s:.0f} s")
        pause.wait(POLL_S)
    return value


REEFLEET = (sys.executable, "-m", "reefleet")


def environment() -> dict[str, str]:
    """What a process under test inherits: this checkout, wherever it is started."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Program:
    """One `reefleet` command as a process; output of every start is added to its two files."""

    def __init__(self, folder: Path, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.output = folder / f"{name}.out"
        self.environment: dict[str, str] = {}  # beside what every process inherits
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll() if self._process else 0

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log, self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env={**environment(), **self.environment},
            )

    def send(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when nothing of it runs any more."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def end(self) -> int:
        """Wait until it ends by itself; the exit code."""
        until(lambda: self.code is not None, f"the end of {self.name}")
        return self.code or 0

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log records with this event, of every start so far."""
        return [entry for entry in _entries(self.log) if entry.get("event") == name]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th record with this event; fails at once where the process ends before."""

        def found() -> dict[str, Any] | None:
            ended = self.code is not None  # asked first: the last words come before the end
            if len(entries := self.events(event)) >= count:
                return entries[count - 1]
            if ended:
                pytest.fail(f"{self.name} ended before {event!r}:\n{self.log.read_text()[-2000:]}")
            return None

        entry = until(found, f"{event!r} of {self.name}")
        assert entry is not None
        return entry

    def told(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout, of every start so far."""
        return _entries(self.output)


def _entries(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in lines if line.startswith("{")]
