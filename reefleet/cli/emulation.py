"""`reefleet devices emulate`: a command under a board's memory, processor share and link rate."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from reefleet.errors import RuntimeUnavailable

EPILOG = """\
examples:
  reefleet devices emulate rpi-zero2w -- reefleet edge run --state DIR --data digits.npz
  reefleet devices emulate rpi-4b --link --dry-run -- true

With --link the command runs in a network namespace of its own, in which $REEFLEET_HOST is this
machine. The command's exit code is given back; 70 means that the board's memory was exceeded.
"""
MOST_EXIT_CODE = 125


def add_parser(actions: Any) -> None:
    """Add `emulate` to the actions of `devices`."""
    parser = actions.add_parser(
        "emulate",
        help="run a command as if on a board",
        description="Run a command under a board's free memory, processor share and link rate, as "
        "far as this machine permits; says on stderr what is emulated and what is not.",
        epilog=EPILOG,
    )
    parser.add_argument("board", metavar="BOARD", help="id or alias of the board")
    parser.add_argument("--memory-mib", type=int, default=0, metavar="N", help="its size")
    parser.add_argument("--cpus", type=float, metavar="C", help="cores (default: measured)")
    parser.add_argument("--link", action="store_true", help="limit the network as well")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="what to run")


def run(options: argparse.Namespace) -> int:
    """Say what is emulated, run the command, and give its exit code."""
    from devices import catalog, emulation

    board = catalog.find(options.board)
    host_ms, board_ms = _paces(board.id, options.cpus)
    link, size = options.link, options.memory_mib
    wish = emulation.wanted(board, host_ms, board_ms, link=link, nominal_mib=size)
    able = emulation.means()
    told = "".join(f"  {line}\n" for line in emulation.described(wish, able))
    sys.stderr.write(f"emulating {board.name}:\n{told}")
    if options.dry_run:
        return 0
    outcome = emulation.run(options.command, wish, able)
    if outcome.peak_mib is not None:
        sys.stderr.write(f"peak memory {outcome.peak_mib} of {wish.memory_mib} MiB\n")
    return outcome.code if 0 <= outcome.code <= MOST_EXIT_CODE else 1


def _paces(board: str, cpus: float | None) -> tuple[float | None, float]:
    """Milliseconds of one small answer here and on the board; here is None where nothing runs."""
    from devices import catalog, cost
    from devices.capability import capability_of
    from devices.probe_models import PROBES

    if cpus is not None:
        return cpus, 1.0
    name, spec = next(iter(PROBES.items()))
    board_ms = cost.answer_ms(
        spec, spec.depth, capability_of(catalog.reference_profile(board)).rates
    )
    try:
        from edge_client.benchmark import time_answer

        return time_answer(name, spec.depth), board_ms.value
    except (ModuleNotFoundError, RuntimeUnavailable):
        return None, board_ms.value
