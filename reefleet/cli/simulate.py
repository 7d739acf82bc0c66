"""`reefleet simulate`: an experiment with many clients on this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reefleet.cli import Subparsers

DATA_VARIABLE = "REEFLEET_DATA"

EPILOG = """\
examples:
  reefleet simulate experiments/depth_digits.toml
  reefleet simulate experiments/depth_writers.toml --data ~/data --out out/writers

The table goes to stdout, progress to stderr. OUT/NAME holds one folder a run with metrics.jsonl,
result.json and the checkpoint from which a run that was killed goes on to the same digits; and
summary.json and summary.png over all runs. Data paths in the file are relative to --data.
"""


def add_parser(subparsers: Subparsers[Any]) -> None:
    """Add `simulate`."""
    parser = subparsers.add_parser(
        "simulate",
        help="compare methods on many simulated clients",
        description="Run an experiment: each method at each learning rate, then each seed, with "
        "the objectives and the aggregation of the real fleet.",
        epilog=EPILOG,
    )
    parser.add_argument("experiment", type=Path, help="TOML file, such as experiments/*.toml")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(DATA_VARIABLE, ".")),
        help=f"folder of the data (default: ${DATA_VARIABLE}, or this one)",
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder (default: out)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(options: argparse.Namespace) -> int:
    """Run what is missing and print the table."""
    from reefleet.blobs import write_atomic
    from reefleet.cli.table import table
    from reefleet.settings import load
    from reefleet.simulation.config import Experiment
    from reefleet.simulation.study import study
    from reefleet.simulation.summary import as_json, draw, rows

    experiment = load(Experiment, options.experiment)
    out = options.out / experiment.name
    show = _silent if options.quiet else _show
    results = study(experiment, options.data, out, show, max(1, options.threads))
    summary = json.dumps(as_json(experiment, results), indent=2) + "\n"
    write_atomic(out / "summary.json", summary.encode())
    draw(out / "summary.png", experiment, results, out)
    sys.stdout.write("\n".join(table(rows(results))) + "\n")
    return 0


def _show(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _silent(_: str) -> None:
    pass
