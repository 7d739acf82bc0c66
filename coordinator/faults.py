"""Named points of a round at which a test may have this process killed; nothing where none asks.

REEFLEET_FAULTS names a file of lines, each a point and a count. When the process comes by the point
of the first line for that time, the line goes and the process dies, as by kill -9.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "REEFLEET_FAULTS"

_ASKED = os.environ.get(VARIABLE)


def point(name: str) -> None:
    """Die here where it is asked for."""
    if _ASKED is None or not (file := Path(_ASKED)).exists():
        return
    first, *later = file.read_text(encoding="utf-8").splitlines()
    wanted, count = first.split()
    if wanted != name:
        return
    if int(count) > 1:
        later = [f"{name} {int(count) - 1}", *later]
    if later:
        file.write_text("\n".join(later), encoding="utf-8")
    else:
        file.unlink()
    if int(count) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
