"""The demo's picture: accuracy by round for each device, and accuracy against latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reefleet.demo.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart in print and by color-blind readers.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#333333"


def draw(
    path: Path, accuracy: Mapping[str, Sequence[tuple[int, float]]], results: Sequence[Result]
) -> None:
    """Write a PNG; `accuracy` holds (round, share right) points of each device of `results`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    _by_round(left, {result.device: accuracy[result.device] for result in results})
    _against_latency(right, results)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=max(1, len(results)),
        frameon=False,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _by_round(axes: Axes, accuracy: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for index, (device, points) in enumerate(accuracy.items()):
        axes.plot(
            [number for number, _ in points],
            [100 * share for _, share in points],
            color=COLORS[index % len(COLORS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            linewidth=1.8,
            label=device,
        )
    axes.set_title("Shared model, as each round begins", loc="left", color=INK)
    axes.set_xlabel("round")
    axes.set_ylabel("accuracy on the device's validation images, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _against_latency(axes: Axes, results: Sequence[Result]) -> None:
    for index, result in enumerate(results):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        times = [result.full_depth_p50_ms, result.early_p50_ms]
        shares = [100 * result.full_depth_accuracy, 100 * result.early_accuracy]
        axes.plot(times, shares, color=color, linewidth=1.2, alpha=0.6)
        axes.scatter(times[:1], shares[:1], 60, marker=marker, facecolor="white", edgecolor=color)
        axes.scatter(times[1:], shares[1:], 60, marker=marker, facecolor=color, edgecolor=color)
    axes.set_title(
        "Personal sub-model: full depth (open) to early exit (filled)", loc="left", color=INK
    )
    axes.set_xlabel("p50 latency on this machine, ms")
    axes.set_ylabel("accuracy on the device's test images, %")
    axes.set_xlim(left=0)
