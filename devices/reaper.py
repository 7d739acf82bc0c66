"""Clears away what an emulation made, when its maker is done or dead.

A process of its own reads a pipe that only the maker holds open. The pipe ends when the maker does,
however it ends; then the groups' processes are killed and groups and namespace removed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 10.0
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Control groups by controller, and a network namespace with a link of the same name."""

    groups: Mapping[str, Path] = field(default_factory=dict)
    namespace: str = ""


@contextmanager
def watched(left: Leftovers) -> Iterator[None]:
    """Clear `left` away when the block ends, or when this process does."""
    values = {"groups": [str(path) for path in left.groups.values()], "namespace": left.namespace}
    with subprocess.Popen(
        [sys.executable, "-m", "devices.reaper", json.dumps(values)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # a signal for our group must not reach it
    ) as reaper:
        try:
            yield
        finally:
            if reaper.stdin:
                reaper.stdin.close()
            reaper.wait()
            clear(left)  # in case somebody killed the reaper


def clear(left: Leftovers) -> None:
    """Kill what runs in the groups, remove groups, namespace and link; again does nothing."""
    for group in left.groups.values():
        _remove(group)
    if left.namespace:
        for command in (
            ["ip", "link", "del", left.namespace],
            ["ip", "netns", "del", left.namespace],
        ):
            subprocess.run(command, check=False, capture_output=True)


def _remove(group: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while group.is_dir() and time.monotonic() < end:
        with suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):  # until the last process has gone
            group.rmdir()
        time.sleep(0 if not group.is_dir() else PAUSE_S)


def main(argument: str) -> None:
    """Wait for the end of stdin, then clear away."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    values = json.loads(argument)
    sys.stdin.buffer.read()
    groups = {str(place): Path(path) for place, path in enumerate(values["groups"])}
    clear(Leftovers(groups, values["namespace"]))


if __name__ == "__main__":
    main(sys.argv[1])
