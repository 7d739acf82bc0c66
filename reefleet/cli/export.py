"""`reefleet export`: compile the graphs of a plan, build a board's sub-model from a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

COMPILE_EXAMPLE = """\
example:
  reefleet export compile --contract contract.json --plan plan.json --out bundle
"""
BUILD_EXAMPLE = """\
example:
  reefleet export build weights.safetensors --contract contract.json \\
      --device rpi-4b --data digits.npz --out sub-models/rpi-4b
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add `export` and its two commands."""
    parser = subparsers.add_parser(
        "export",
        help="build a board's sub-model, compile task bundles",
        description="Turn the model into files that boards run.",
        epilog=BUILD_EXAMPLE,
    )
    commands = parser.add_subparsers(dest="export_command", metavar="COMMAND", required=True)
    _add_build(commands)
    compiling = commands.add_parser(
        "compile",
        help="compile the task bundle of a plan (the coordinator does this itself)",
        description="Trace and lower every graph of one plan; weights stay apart.",
        epilog=COMPILE_EXAMPLE,
    )
    compiling.add_argument("--contract", required=True, type=Path, help="model contract (JSON)")
    compiling.add_argument("--plan", required=True, type=Path, help="sub-model plan (JSON)")
    compiling.add_argument("--out", required=True, type=Path, help="folder of the bundle")
    compiling.set_defaults(export_run=_compile)


def run(options: argparse.Namespace) -> int:
    """Do the chosen command."""
    return int(options.export_run(options))


def _add_build(commands: argparse._SubParsersAction[Any]) -> None:
    build = commands.add_parser(
        "build",
        help="build the quantized sub-model of a board from a checkpoint",
        description="Cut, quantize and pack the sub-model that a board can bear, check every exit\n"
        "against torch, and write a bundle that `reefleet edge infer` answers from.",
        epilog=BUILD_EXAMPLE,
    )
    build.add_argument("checkpoint", type=Path, help="safetensors file with the full model")
    build.add_argument("--contract", required=True, type=Path, help="model contract (JSON)")
    build.add_argument("--device", required=True, help="board id of the catalog")
    build.add_argument("--depth", type=int, help="exit depth (default: the planner's)")
    build.add_argument("--bits", type=int, help="bits a weight, 1 to 8 (default: the planner's)")
    build.add_argument("--latency-ms", type=float, help="budget of an answer (default: none)")
    build.add_argument("--data", required=True, type=Path, help=".npz with validation samples")
    build.add_argument("--out", required=True, type=Path, help="folder of the bundle")
    build.add_argument("--json", action="store_true", help="print the result as JSON")
    build.set_defaults(export_run=_build)


def _compile(options: argparse.Namespace) -> int:
    from export.compile import compile_task
    from reefleet.cli.model import read_contract, read_json
    from reefleet.plan import SubmodelPlan

    begun = time.perf_counter()
    contract = read_contract(options.contract)
    plan = SubmodelPlan.from_json(read_json(options.plan))
    digest = compile_task(contract, plan, options.out)
    seconds = round(time.perf_counter() - begun, 2)
    sys.stdout.write(json.dumps({"manifest_sha256": digest, "seconds": seconds}) + "\n")
    return 0


def _build(options: argparse.Namespace) -> int:
    raise SystemExit(2)
