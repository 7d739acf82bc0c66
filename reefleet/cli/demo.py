"""`reefleet demo`: a coordinator and five boards as real processes on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reefleet.cli import Subparsers

EPILOG = """\
examples:
  reefleet demo
  reefleet demo --rounds 20 --seed 3 --out out/longer
  reefleet demo --emulate

The table goes to stdout, progress to stderr. Later:
  reefleet edge infer out/rpi-zero2w out/digits/7.png
"""


def add_parser(subparsers: Subparsers[Any]) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="a whole fleet on this machine, in minutes",
        description="Run a coordinator and five clients on loopback: real processes, mutual TLS, "
        "handwritten digits, eight rounds, a personal sub-model for each board.",
        epilog=EPILOG,
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder (default: out)")
    parser.add_argument("--rounds", type=_positive, default=8, help="federated rounds (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of data and weights (default: 0)")
    parser.add_argument(
        "--keep", action="store_true", help="keep states, logs and identities under OUT/.run"
    )
    parser.add_argument(
        "--emulate",
        action="store_true",
        help="give each client its board's memory and processor share, as far as can be done here",
    )


def run(options: argparse.Namespace) -> int:
    """Play the demo and print its table."""
    from reefleet.demo.run import Demo, play, report

    demo = Demo(options.out, options.rounds, options.seed, options.keep, options.emulate)
    sys.stdout.write(report(demo, play(demo, sys.stderr)) + "\n")
    return 0


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        msg = f"{value} is not a positive whole number"
        raise argparse.ArgumentTypeError(msg)
    return value
