"""What an experiment found: a table as rows of text, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reefleet.simulation.config import Experiment
from reefleet.simulation.study import Figures, spread

COLUMNS = (
    ("test", "mean over exits %"),
    ("area", "area %"),
    ("personal_test", "personal, mean over exits %"),
    ("personal_test_deepest", "personal, deepest exit %"),
)
MEBI = 1 << 20


def rows(results: Mapping[str, Sequence[Figures]]) -> list[tuple[str, ...]]:
    """A header and one row a method: test accuracy over seeds, bytes sent, seconds."""
    shown = [c for c in COLUMNS if any(c[0] in runs[0] for runs in results.values())]
    named: list[list[int]] = [runs[0]["exits"] for runs in results.values() if "exits" in runs[0]]
    exits = max(named, key=len, default=[])
    heads = ("method", "rate", "seeds", *(title for _, title in shown))
    table = [(*heads, *(f"exit {depth} %" for depth in exits), "MMAC", "sent MiB", "s a run")]
    for method, runs in results.items():
        cells = [_cell([run.get(key) for run in runs]) for key, _ in shown]
        cells += [_cell([_at(run, depth) for run in runs]) for depth in exits]
        sent = sum(run["bytes_up"] for run in runs) / len(runs) / MEBI
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        start = (method, f"{runs[0]['rate']:g}", str(len(runs)))
        macs = f"{runs[0]['exit_macs'][-1] / 1e6:.2f}"
        table.append((*start, *cells, macs, f"{sent:.1f}", f"{seconds:.0f}"))
    return table


def as_json(experiment: Experiment, results: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
    """The figures of every run, with mean and deviation of each accuracy over the seeds."""
    summary: dict[str, Any] = {}
    for method, runs in results.items():
        means = {
            key: dict(zip(("mean", "deviation"), spread([run[key] for run in runs]), strict=True))
            for key, _ in COLUMNS
            if key in runs[0]
        }
        summary[method] = {**means, "runs": list(runs)}
    return {"experiment": experiment.name, "methods": summary}


def _at(run: Figures, depth: int) -> float | None:
    if depth not in run.get("exits", ()):
        return None
    found: float = run["test_exits"][run["exits"].index(depth)]
    return found


def _cell(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    mean, deviation = spread(known)
    return f"{mean:.1f} ± {deviation:.1f}" if len(known) > 1 else f"{mean:.1f}"
