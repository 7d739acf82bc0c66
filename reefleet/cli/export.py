"""`reefleet export`: sub-models for boards, their verification and measurement, task bundles."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from reefleet.cli import export_build, export_bundle

COMPILE_EXAMPLE = """\
example:
  reefleet export compile --contract contract.json --plan plan.json --out bundle
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add `export` and its commands."""
    parser = subparsers.add_parser(
        "export",
        help="build, check, show and measure a board's sub-model; compile task bundles",
        description="Turn the model into files that boards run.",
        epilog=export_build.EXAMPLE,
    )
    commands = parser.add_subparsers(dest="export_command", metavar="COMMAND", required=True)
    export_build.add_command(commands)
    export_bundle.add_commands(commands)
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


def _compile(options: argparse.Namespace) -> int:
    from export.compile import compile_task
    from reefleet.cli.inputs import read_contract, read_json
    from reefleet.plan import SubmodelPlan

    begun = time.perf_counter()
    contract = read_contract(options.contract)
    plan = SubmodelPlan.from_json(read_json(options.plan))
    digest = compile_task(contract, plan, options.out)
    seconds = round(time.perf_counter() - begun, 2)
    sys.stdout.write(json.dumps({"manifest_sha256": digest, "seconds": seconds}) + "\n")
    return 0
