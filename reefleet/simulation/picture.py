"""An experiment as a PNG: accuracy by round, by exit, and against mean MACs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reefleet.simulation.checkpoint import METRICS
from reefleet.simulation.config import Experiment
from reefleet.simulation.study import Figures, spread
from reefleet.simulation.trial import Trial

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
BUDGETS = 40  # points of a curve that is a mean over seeds
MEGA = 1e6


def draw(
    path: Path, experiment: Experiment, results: Mapping[str, Sequence[Figures]], out: Path
) -> None:
    """Write a PNG: validation accuracy by round, test accuracy by exit and by mean MACs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    for index, (method, runs) in enumerate(results.items()):
        marker = MARKERS[index // len(COLORS) % len(MARKERS)]
        style = {"color": COLORS[index % len(COLORS)], "marker": marker, "label": method}
        trial = Trial(experiment, method, runs[0]["rate"], runs[0]["seed"])
        if points := _by_round(out / trial.folder / METRICS):
            left.plot(*zip(*points, strict=True), **style)
        if "test_exits" in runs[0]:
            _by_exit(middle, runs, style)
        if "early_exit" in runs[0]:
            right.plot(*_by_cost(runs), **{**style, "markevery": 8})
    left.set(xlabel="round", ylabel="validation accuracy, mean over exits, %")
    middle.set(xlabel="exit, blocks", ylabel="test accuracy, %")
    right.set(xlabel="mean cost of an answer, MMAC", ylabel="test accuracy, %")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    _name(figure, (left, middle))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _by_round(path: Path) -> list[tuple[int, float]]:
    points = []
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if exits := line.get("validation"):
            points.append((line["round"], 100 * sum(exits) / len(exits)))
    return points


def _by_exit(axes: Any, runs: Sequence[Figures], style: Mapping[str, Any]) -> None:
    exits = runs[0]["exits"]
    means = [spread([run["test_exits"][index] for run in runs]) for index in range(len(exits))]
    heights, bars = ([100 * value for value in axis] for axis in zip(*means, strict=True))
    axes.errorbar(exits, heights, bars, capsize=3, **style)
    axes.set_xticks(exits)


def _by_cost(runs: Sequence[Figures]) -> tuple[Sequence[float], Sequence[float]]:
    curves = [np.asarray(run["early_exit"]["curve"]).T for run in runs]
    budgets = np.linspace(curves[0][0].min(), curves[0][0].max(), BUDGETS)
    heights = np.mean([np.interp(budgets, *curve) for curve in curves], 0)
    return [float(cost) / MEGA for cost in budgets], [100 * float(share) for share in heights]


def _name(figure: Any, shown: Sequence[Any]) -> None:
    handles = {
        label: handle
        for axes in shown
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
