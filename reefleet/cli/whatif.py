"""The what-if picture of a board: accuracy against a cost, as text and as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reefleet.cli.table import table

if TYPE_CHECKING:
    from coordinator.planner.frontier import Axis, Point

WIDTH, HEIGHT = 64, 16
MARKS = "#*o."  # chosen, on the front, fits, refused
LEGEND = "# chosen   * Pareto front   o fits   . refused"


def as_text(points: Sequence[Point], axis: Axis, board: str) -> str:
    """A plot in characters, then every point of the Pareto front."""
    left, right = points[0].cost, max(point.cost for point in points)
    low, high = min(p.accuracy for p in points), max(p.accuracy for p in points)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for point in sorted(points, key=_weight, reverse=True):
        x = round((point.cost - left) / ((right - left) or 1) * (WIDTH - 1))
        y = round((high - point.accuracy) / ((high - low) or 1) * (HEIGHT - 1))
        grid[y][x] = MARKS[_weight(point)]
    labels = [f"{high:.3f}", *[""] * (HEIGHT - 2), f"{low:.3f}"]
    lines = [f"{board}: expected accuracy against {axis.title} ({axis.unit})", ""]
    rows = zip(labels, grid, strict=True)
    lines += [f"{label:>6} |{''.join(row)}".rstrip() for label, row in rows]
    lines.append(f"{'':>6} +{'-' * WIDTH}")
    lines.append(f"{'':>8}{left:<{WIDTH // 2}.3g}{right:>{WIDTH // 2}.3g}")
    cells = [("depth", "bits", "expected accuracy", axis.unit, "")]
    for point in points:
        if point.best or point.chosen:
            said = "chosen" if point.chosen else "" if point.fits else "refused"
            figures = (f"{point.accuracy:.4f}", f"{point.cost:.3g}")
            cells.append((str(point.exit_depth), f"{point.bits:.3g}", *figures, said))
    return "\n".join([*lines, LEGEND, "", *table(cells)])


def draw(path: Path, points: Sequence[Point], axis: Axis, board: str) -> None:
    """Write the picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    kinds = (("refused", False, "#b9b9b9", "x"), ("fits", True, "#3b76af", "o"))
    for label, fits, color, marker in kinds:
        some = [point for point in points if point.fits is fits]
        across, up = [p.cost for p in some], [p.accuracy for p in some]
        axes.scatter(across, up, c=color, marker=marker, s=28, label=label)
    front = [point for point in points if point.best]
    axes.step(
        [p.cost for p in front],
        [p.accuracy for p in front],
        where="post",
        color="#c65d21",
        linewidth=1.4,
        label="Pareto front",
    )
    for point in points:
        if point.chosen:
            axes.scatter(
                [point.cost], [point.accuracy], s=150, facecolors="none", edgecolors="#222222"
            )
            text = f"chosen: depth {point.exit_depth}, {point.bits:.3g} bits"
            axes.annotate(
                text,
                (point.cost, point.accuracy),
                textcoords="offset points",
                xytext=(8, -16),
                fontsize=9,
            )
    axes.set_title(board, loc="left")
    axes.set_xlabel(f"{axis.title}, {axis.unit}")
    axes.set_ylabel("expected accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def _weight(point: Point) -> int:
    """Place in MARKS; the weightiest is drawn last."""
    if point.chosen:
        return 0
    if point.best:
        return 1
    return 2 if point.fits else 3
