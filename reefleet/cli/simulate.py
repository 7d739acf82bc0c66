"""`reefleet simulate`: an experiment with many clients on this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reefleet.cli import Subparsers
    from reefleet.simulation.clients import Engine

DATA_VARIABLE = "REEFLEET_DATA"

EPILOG = """\
examples:
  reefleet simulate experiments/depth_ablations.toml
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
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: spread clients over a Ray cluster, to the same digits (needs reefleet[ray])",
    )
    parser.add_argument(
        "--ray-address", default="", help="of a running cluster, or auto (default: start one here)"
    )
    parser.add_argument(
        "--shards", type=int, default=0, help="processes of the engine ray (default: one a CPU)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(options: argparse.Namespace) -> int:
    """Run what is missing and print the table."""
    from reefleet.blobs import write_atomic
    from reefleet.cli.table import table
    from reefleet.simulation.picture import draw
    from reefleet.simulation.study import Means, study
    from reefleet.simulation.summary import as_json, rows
    from reefleet.simulation.variants import read_experiment

    experiment, variants = read_experiment(options.experiment)
    out = options.out / experiment.name
    show = _silent if options.quiet else _show
    threads = max(1, options.threads)
    with _engine(options, threads) as engine:
        means = Means(engine, threads)
        results = study(experiment, options.data, out, show, variants, means)
    summary = json.dumps(as_json(experiment, results), indent=2) + "\n"
    write_atomic(out / "summary.json", summary.encode())
    draw(out / "summary.png", experiment, results, out)
    sys.stdout.write("\n".join(table(rows(results))) + "\n")
    return 0


@contextmanager
def _engine(options: argparse.Namespace, threads: int) -> Iterator[Engine]:
    from reefleet.simulation.clients import local_engine

    if options.engine == "local":
        yield local_engine
        return
    from reefleet.simulation.ray_engine import RayEngine

    engine = RayEngine(options.ray_address, max(0, options.shards), threads)
    try:
        yield engine
    finally:
        engine.close()


def _show(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _silent(_: str) -> None:
    pass
