"""`reefleet` with the stand-in compiler in the compiler's place, for devices that run no graph."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from coordinator import server
from reefleet.cli import main

STAND_IN = Path(__file__).parents[1] / "coordinator" / "stand_in_compiler.py"

if __name__ == "__main__":
    command = (sys.executable, str(STAND_IN))
    server.Coordinator = partial(server.Coordinator, compiler=command)  # type: ignore[assignment,misc]
    sys.exit(main())
