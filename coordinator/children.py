"""Work done in a process of its own, so that a crash or a leak there cannot hurt the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from coordinator.leash import leashed
from reefleet.errors import ExportError

_TAIL_BYTES = 4096


class Children:
    """The processes started here; none outlives `close` or this process. Safe in many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False

    def run(self, command: Sequence[str], log: Path, timeout_s: float) -> str:
        """Run `command` to its end and return its stdout; its stderr is added to `log`.

        Raises ExportError with the last line of stderr where it fails or takes too long.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            start = errors.tell()
            process = self._start(command, errors.fileno())
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                msg = f"{_name(command)} took longer than {timeout_s:.0f} s; see {log}"
                raise ExportError(msg) from error
            finally:
                self._end(process)
        if process.returncode:
            said = _last_line(log, start) or f"it said nothing; exit status {process.returncode}"
            msg = f"{_name(command)} failed: {said} (see {log})"
            raise ExportError(msg)
        return output

    def close(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            _kill(process)

    def _start(self, command: Sequence[str], errors: int) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                msg = f"{_name(command)} was not started: the coordinator is stopping"
                raise ExportError(msg)
            # A session of its own: an interrupt at the terminal is for the coordinator alone.
            process = subprocess.Popen(
                leashed(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            _kill(process)
            process.communicate()
        with self._lock:
            self._running.discard(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _name(command: Sequence[str]) -> str:
    words = [word for word in command[1:] if not word.startswith("-")]
    return " ".join(words[:3]) or command[0]


def _last_line(log: Path, start: int) -> str:
    with log.open("rb") as stream:
        stream.seek(max(start, log.stat().st_size - _TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
