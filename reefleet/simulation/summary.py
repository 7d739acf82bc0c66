"""What an experiment found: a table as rows of text, the same as JSON, and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reefleet.simulation.checkpoint import METRICS
from reefleet.simulation.config import Experiment
from reefleet.simulation.run import Trial
from reefleet.simulation.study import Figures, spread

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
COLUMNS = (
    ("test", "mean over exits %"),
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
    table = [(*heads, *(f"exit {depth} %" for depth in exits), "sent MiB", "s a run")]
    for method, runs in results.items():
        cells = [_cell([run.get(key) for run in runs]) for key, _ in shown]
        cells += [_cell([_at(run, depth) for run in runs]) for depth in exits]
        sent = sum(run["bytes_up"] for run in runs) / len(runs) / MEBI
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        rate = f"{runs[0]['rate']:g}"
        table.append((method, rate, str(len(runs)), *cells, f"{sent:.1f}", f"{seconds:.0f}"))
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


def draw(
    path: Path, experiment: Experiment, results: Mapping[str, Sequence[Figures]], out: Path
) -> None:
    """Write a PNG: validation accuracy by round, and test accuracy by exit."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for index, (method, runs) in enumerate(results.items()):
        style: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "marker": "osD^vPX"[index // len(COLORS) % 7],
            "label": method,
        }
        trial = Trial(experiment, method, runs[0]["rate"], runs[0]["seed"])
        if points := _curve(out / trial.folder / METRICS):
            left.plot([p[0] for p in points], [p[1] for p in points], **style)
        if "test_exits" in runs[0]:
            means = [spread([run["test_exits"][i] for run in runs]) for i in _exits(runs)]
            right.errorbar(
                runs[0]["exits"],
                [100 * mean for mean, _ in means],
                [100 * deviation for _, deviation in means],
                capsize=3,
                **style,
            )
            right.set_xticks(runs[0]["exits"])
    left.set(xlabel="round", ylabel="validation accuracy, mean over exits, %")
    right.set(xlabel="exit, blocks", ylabel="test accuracy, %")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    handles = {
        label: handle
        for axes in (left, right)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _exits(runs: Sequence[Figures]) -> range:
    return range(len(runs[0]["test_exits"]))


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


def _curve(path: Path) -> list[tuple[int, float]]:
    points = []
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if exits := line.get("validation"):
            points.append((line["round"], 100 * sum(exits) / len(exits)))
    return points
