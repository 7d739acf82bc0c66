"""The demo's child processes: started, watched, and always ended by their own id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reefleet.errors import ReefleetError

GRACE_S = 5.0
POLL_S = 0.05
RUN_TIMEOUT_S = 120.0
TAIL_LINES = 8


class ChildFailed(ReefleetError):
    """A process of the demo ended although it should not have; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """One running `reefleet` process; its stdout and stderr are files."""

    name: str
    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    def failure(self) -> ChildFailed:
        """Say how the process ended and what it logged last."""
        code = self.process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = self.stderr.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "".join(f"\n  {line}" for line in lines[-TAIL_LINES:]) or " without a word"
        return ChildFailed(f"{self.name} {how}:{tail}")


@dataclass(slots=True)
class Family:
    """Every child of one demo run. Open it with `family`, which ends those that still run."""

    folder: Path
    environment: Mapping[str, str]
    children: list[Child] = field(default_factory=list)

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start `reefleet` with `arguments`; does not wait."""
        stdout, stderr = self.folder / f"{name}.out", self.folder / f"{name}.log"
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "reefleet", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **self.environment},
            )
        child = Child(name, process, stdout, stderr)
        self.children.append(child)
        return child

    def run(self, name: str, arguments: Sequence[str], timeout_s: float = RUN_TIMEOUT_S) -> str:
        """Run one command to its end and give its stdout; raises ChildFailed if it fails."""
        return self.run_all({name: arguments}, timeout_s)[name]

    def run_all(
        self, commands: Mapping[str, Sequence[str]], timeout_s: float = RUN_TIMEOUT_S
    ) -> dict[str, str]:
        """Run commands side by side to their ends, as `run` does one."""
        started = [self.start(name, arguments) for name, arguments in commands.items()]
        deadline = time.monotonic() + timeout_s
        for child in started:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
            if child.process.poll() is None:
                msg = f"{child.name} did not end within {timeout_s:.0f} s"
                raise ChildFailed(msg)
            if child.process.returncode:
                self.check()  # an older child's failure may be why this one failed
            self.children.remove(child)
        return {child.name: child.stdout.read_text(encoding="utf-8") for child in started}

    def check(self) -> None:
        """Raise ChildFailed when a child has ended badly."""
        for child in self.children:
            if child.process.poll():
                raise child.failure()

    def end(self) -> None:
        """Ask every running child to stop, then kill those that did not within the grace."""
        running = [child.process for child in self.children if child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()


@contextmanager
def family(folder: Path, environment: Mapping[str, str]) -> Iterator[Family]:
    """Open a family whose logs lie in `folder`; leaving the block ends every child."""
    folder.mkdir(parents=True, exist_ok=True)
    members = Family(folder, environment)
    try:
        yield members
    finally:
        members.end()


def first_event(members: Family, child: Child, event: str, timeout_s: float) -> dict[str, Any]:
    """Wait for the JSON line with this `event` on the child's stdout and give its values."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for line in child.stdout.read_text(encoding="utf-8").splitlines(keepends=True):
            values = json.loads(line) if line.startswith("{") and line.endswith("\n") else {}
            if values.get("event") == event:
                return dict(values)
        members.check()
        if child.process.poll() is not None:
            raise child.failure()
        time.sleep(POLL_S)
    msg = f"{child.name} did not say {event!r} within {timeout_s:.0f} s"
    raise ChildFailed(msg)
