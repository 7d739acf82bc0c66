"""The demo's table, in Markdown: a whole fleet on this machine, the mean over some seeds.

    python benchmarks/fleet.py --seeds 0 1 2

Every figure is measured in these runs. Latency and memory are of the machine that plays the boards.
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from reefleet.demo.results import Result, by_exit, size
from reefleet.demo.run import Demo, Played, play
from reefleet.demo.scenario import CONTRACT

Column = tuple[str, Callable[[Result], float], Callable[[float], str]]


def percent(value: float) -> str:
    """One decimal is what a held-out part of some 60 images can bear."""
    return f"{value:.1%}"


COLUMNS: tuple[Column, ...] = (
    ("shared", lambda r: r.shared_accuracy, percent),
    ("personal", lambda r: r.personal_accuracy, percent),
    ("early exit", lambda r: r.early_accuracy, percent),
    ("packed", lambda r: r.packed_bytes, size),
    ("of float32", lambda r: r.packed_bytes / r.full_model_bytes, percent),
    ("mean exit", lambda r: r.mean_exit_depth, "{:.2f}".format),
    ("latency ratio", lambda r: r.early_p50_ms / r.full_depth_p50_ms, "{:.2f}".format),
    ("down", lambda r: r.bytes_down, size),
    ("up", lambda r: r.bytes_up, size),
    ("peak memory", lambda r: r.peak_resident_bytes, size),
)


def main() -> None:
    """Play one demo a seed and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            demo = Demo(Path(folder), options.rounds, seed)
            runs.append(play(demo, io.StringIO()))
        print(f"seed {seed}: {summary(runs[-1])}", flush=True)
    print()
    print(table(runs))


def summary(run: Played) -> str:
    """One run in a line."""
    shared = statistics.mean(r.shared_accuracy for r in run.results)
    personal = statistics.mean(r.personal_accuracy for r in run.results)
    exits = zip(CONTRACT.spec.exits, by_exit(run.results), strict=False)
    shape = ", ".join(f"{depth}: {accuracy:.1%}" for depth, accuracy in exits)
    return f"shared {shared:.1%} (by exit {shape}), personal {personal:.1%}, {run.seconds:.0f} s"


def table(runs: Sequence[Played]) -> str:
    """Means over the runs, a device a line; the latency ratio is early exit to full depth."""
    names = ["device", "exit depth", "bits", *(name for name, _, _ in COLUMNS)]
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    for group in zip(*(run.results for run in runs), strict=True):
        first = group[0]
        cells = [first.device, str(first.exit_depth), str(first.bits)]
        cells += [show(statistics.mean(map(get, group))) for _, get, show in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    seconds = statistics.mean(run.seconds for run in runs)
    machine = f"Python {platform.python_version()} on {platform.machine()}"
    return "\n".join([*lines, "", f"{len(runs)} seeds, {seconds:.0f} s a run, {machine}"])


if __name__ == "__main__":
    main()
