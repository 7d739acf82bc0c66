"""Bytes of an update against accuracy on a real task: `experiments/codecs_digits.toml`.

    python benchmarks/bytes_up.py [--out FOLDER]

FedAvg on handwritten digits, split unevenly by class. Each update is coded with error feedback as a
client sends it. The yardstick is what Flower sends, raw float32. Exit code 1 where no codec needs a
seventh of that, or less, at equal accuracy: within two standard errors of the difference, seed by
seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXPERIMENT = ROOT / "experiments" / "codecs_digits.toml"
BASE = "float32"
LEAST = 7.0


def main() -> int:
    """Run the experiment, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the runs (default: a new one)")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        found = _runs(out or Path(name))
    base = found[BASE]
    print(f"{EXPERIMENT.name}, {len(base)} seeds")
    print("| codec | accuracy % | minus float32 | KiB a run | of float32 | equal and 1/7 |")
    print("| --- | --- | --- | --- | --- | --- |")
    good = False
    for codec, runs in found.items():
        gains = [100 * (run["test"] - other["test"]) for run, other in zip(runs, base, strict=True)]
        spread = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
        ratio = _mean(base, "bytes_up") / _mean(runs, "bytes_up")
        floor = statistics.mean(gains) >= -2 * spread and ratio >= LEAST
        good |= floor
        gain = f"{statistics.mean(gains):+.2f} ± {spread:.2f}"
        shown = f"{100 * _mean(runs, 'test'):.2f} | {gain} | {_mean(runs, 'bytes_up') / 1024:,.0f}"
        print(f"| {codec} | {shown} | 1/{ratio:.1f} | {'yes' if floor else 'no'} |")
    return 0 if good else 1


def _runs(out: Path) -> dict[str, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "reefleet", "simulate", str(EXPERIMENT), "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    told = json.loads((out / EXPERIMENT.stem / "summary.json").read_text(encoding="utf-8"))
    return {name: method["runs"] for name, method in told["methods"].items()}


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(run[key] for run in runs)


if __name__ == "__main__":
    sys.exit(main())
