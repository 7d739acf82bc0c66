"""Runs a command that dies with the coordinator, however that dies: even killed, it leaves nobody.

    python -m coordinator.leash PARENT COMMAND...

The kernel sends the signal when the thread is gone that started this process; that thread waits for
it. Set here, between fork and exec, because a process with threads can do nothing there safely.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)


def leashed(command: Sequence[str]) -> list[str]:
    """The command as a child of this process that does not outlive it; plain where not Linux."""
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-m", "coordinator.leash", str(os.getpid()), *command]


def main(arguments: Sequence[str]) -> None:
    """Tie this process to its parent and become the command."""
    parent, *command = arguments
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the signal was asked for
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # the coordinator chose the command


if __name__ == "__main__":
    main(sys.argv[1:])
