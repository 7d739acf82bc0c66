"""Accuracy against latency of each exit, as text for a terminal and as a picture."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.bundle import MANIFEST
from export.measurement import Job, measure
from export.runtimes import ONNX
from reefleet.errors import InputError, RuntimeUnavailable, StoreError, StoreFull
from reefleet.wire.manifest import SubmodelBundle

WIDTH, HEIGHT = 60, 12
RUNS = 20
_SOURCES = (
    "accuracy: on the validation samples of the build, from the manifest",
    f"latency: median of {RUNS} runs of the stages to that exit, measured now on this machine,",
    "         one image, one thread of onnxruntime",
)
INK = "#333333"
COLOR = "#0072B2"


@dataclass(frozen=True, slots=True)
class Point:
    """One exit: blocks kept, latency here with one thread, share right on the validation data."""

    exit_depth: int
    milliseconds: float
    accuracy: float


def points(folder: Path, manifest: SubmodelBundle) -> list[Point]:
    """Measure the chain to each exit on this machine; raises InputError without accuracies."""
    if not manifest.exits:
        msg = f"{folder / MANIFEST} holds no measured accuracy; `export build` writes it"
        raise InputError(msg)
    spec = manifest.model
    image = (1, *spec.image_shape)
    found = []
    for count, exit_ in enumerate(manifest.exits, 1):
        paths = tuple(str(folder / stage.file) for stage in manifest.stages[:count])
        figures = measure(Job(ONNX, paths, 1, image, RUNS, weights=str(folder)))
        found.append(Point(exit_.exit_depth, figures.p50_ms, exit_.accuracy))
    return found


def text_chart(found: Sequence[Point]) -> str:
    """A scatter of a few lines; each exit is marked by its depth."""
    slowest = max(point.milliseconds for point in found)
    low = min(point.accuracy for point in found)
    high = max(point.accuracy for point in found)
    span = max(high - low, 0.02)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for point in found:
        mark = str(point.exit_depth)
        column = min(int(point.milliseconds / slowest * (WIDTH - 1)), WIDTH - len(mark))
        row = HEIGHT - 1 - round((point.accuracy - low) / span * (HEIGHT - 1))
        grid[row][column : column + len(mark)] = list(mark)
    labels = {0: f"{low + span:>7.1%}", HEIGHT - 1: f"{low:>7.1%}"}
    lines = [f"{labels.get(row, ''):>8} |{''.join(cells)}" for row, cells in enumerate(grid)]
    lines.append(f"{'':>8} +{'-' * WIDTH}")
    lines.append(f"{'':>10}0 ms{f'{slowest:.2f} ms':>{WIDTH - 4}}")
    lines += ["", *_SOURCES]
    return "\n".join(["accuracy against latency, by exit depth", *lines])


def draw(path: Path, found: Sequence[Point], title: str) -> None:
    """Write the picture in the format of the file's name.

    Raises RuntimeUnavailable, InputError for a format, StoreError or StoreFull leaving no half.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        msg = "pictures need matplotlib; run: pip install 'reefleet[all]'"
        raise RuntimeUnavailable(msg) from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    times, shares = [p.milliseconds for p in found], [100 * p.accuracy for p in found]
    axes.plot(times, shares, color=COLOR, marker="o", linewidth=1.8)
    for point in found:
        axes.annotate(
            f"exit {point.exit_depth}",
            (point.milliseconds, 100 * point.accuracy),
            textcoords="offset points",
            xytext=(6, -12),
            color=INK,
        )
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel("latency of one image on this machine, one thread, ms")
    axes.set_ylabel("accuracy on validation samples, %")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, dpi=150, format=path.suffix[1:] or "png")
    except ValueError as error:
        msg = f"cannot draw the picture {path}: {error}"
        raise InputError(msg) from error
    finally:
        plt.close(figure)
    _write(path, drawn.getvalue())


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        if path.is_file():
            path.unlink()
        msg = f"cannot write the picture {path}: {error.strerror}"
        raise (StoreFull if error.errno == errno.ENOSPC else StoreError)(msg) from error
