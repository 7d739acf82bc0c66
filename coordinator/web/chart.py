"""Line and bar charts as inline SVG; colors come from the page's style sheet, for light and dark.

Attributes carry all geometry, so that the page's policy may forbid inline styles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 210
LEFT, RIGHT, TOP, BOTTOM = 74, 6, 10, 26
LINES = 4
FLAT = 0.04  # of a value that never changed, above and below it
LEAST_SPAN = 0.04  # of a line: closer grid lines would read the same, in percent or two decimals
MOST_DOTS = 40  # more would be a smear
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a round; `low` and `high` draw a band where they are given."""

    at: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Axes:
    """What a chart shows, how its values read, and what the places along it are."""

    title: str
    show: Callable[[float], str]
    tick: Callable[[float], str]
    place: str = "round"


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `least` to `most`, with lines `step` apart."""

    least: float
    most: float
    step: float

    def y(self, value: float) -> float:
        """Where a value lies, in units of the picture."""
        span = self.most - self.least
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.least) / span)

    def lines(self) -> list[float]:
        """Values that get a line."""
        count = round((self.most - self.least) / self.step)
        return [self.least + self.step * index for index in range(count + 1)]


def scale_of(values: Sequence[float], *, from_zero: bool, unit: float = 1.0) -> Scale:
    """Round bounds around the values; `unit` is what a whole step is made of, as 1024 for bytes."""
    least, most = min(values), max(values)
    least = 0.0 if from_zero else least
    if most <= least:
        room = FLAT * abs(most) or 1.0
        least, most = (0.0, most or 1.0) if from_zero else (least - room, most + room)
    size = unit ** math.floor(math.log(most, unit)) if unit > 1 else 1.0
    rough = (most - least) / LINES / size
    power = 10.0 ** math.floor(math.log10(rough))
    step = size * power * next(nice for nice in _NICE if nice * power >= rough * (1 - 1e-9))
    low = math.floor(least / step + 1e-9) * step
    high = math.ceil(most / step - 1e-9) * step
    return Scale(low, high, step)


def lines(axes: Axes, points: Sequence[Point], *, share: bool = False) -> Markup:
    """A line with its band; '' where there is nothing to draw."""
    if not points:
        return Markup("")
    values = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    middle, half = (min(values) + max(values)) / 2, LEAST_SPAN / 2
    if max(values) - min(values) < LEAST_SPAN:
        values += [middle - half, middle + half]
    scale = scale_of(values, from_zero=False)
    if share:
        scale = Scale(max(0.0, scale.least), min(1.0, scale.most), scale.step)
    x = _places(points)
    marks = [_band(points, x, scale)] if any(p.low is not None for p in points) else []
    if len(points) > 1:
        path = " ".join(f"{x[p.at]:.1f},{scale.y(p.value):.1f}" for p in points)
        marks.append(f'<polyline class="line" points="{path}"/>')
    for p in points if len(points) <= MOST_DOTS else points[-1:]:
        dot = f'<circle class="dot" cx="{x[p.at]:.1f}" cy="{scale.y(p.value):.1f}" r="3.5">'
        marks.append(f"{dot}{_tip(axes, p)}</circle>")
    return _picture(axes, points, scale, x, marks)


def bars(axes: Axes, points: Sequence[Point], *, unit: float = 1.0) -> Markup:
    """A bar a place, from zero; '' where there is nothing to draw."""
    if not points:
        return Markup("")
    scale = scale_of([point.value for point in points], from_zero=True, unit=unit)
    x = _places(points)
    room = (WIDTH - LEFT - RIGHT) / max(4, len(points))
    wide = max(1.0, min(28.0, room * 0.7))
    marks = []
    for p in points:
        top = scale.y(p.value)
        tall, corner = max(0.5, HEIGHT - BOTTOM - top), min(3.0, wide / 3)
        box = f'x="{x[p.at] - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
        marks.append(f'<rect class="bar" {box} rx="{corner:.1f}">{_tip(axes, p)}</rect>')
    return _picture(axes, points, scale, x, marks)


def _places(points: Sequence[Point]) -> dict[int, float]:
    room = (WIDTH - LEFT - RIGHT) / len(points)
    return {point.at: LEFT + room * (index + 0.5) for index, point in enumerate(points)}


def _band(points: Sequence[Point], x: dict[int, float], scale: Scale) -> str:
    known = [(x[p.at], p.low, p.high) for p in points if p.low is not None and p.high is not None]
    upper = [f"{at:.1f},{scale.y(high):.1f}" for at, _, high in known]
    lower = [f"{at:.1f},{scale.y(low):.1f}" for at, low, _ in reversed(known)]
    return f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>'


def _tip(axes: Axes, point: Point) -> str:
    text = f"{axes.place.capitalize()} {point.at}: {axes.show(point.value)}"
    if point.low is not None and point.high is not None:
        text += f", devices from {axes.show(point.low)} to {axes.show(point.high)}"
    return f"<title>{escape(text)}</title>"


def _picture(
    axes: Axes,
    points: Sequence[Point],
    scale: Scale,
    x: dict[int, float],
    marks: Sequence[str],
) -> Markup:
    first, last = points[0], points[-1]
    said = f"{axes.title}: {axes.show(first.value)} in {axes.place} {first.at}"
    if last is not first:
        said += f", {axes.show(last.value)} in {axes.place} {last.at}"
    grid = []
    for value in scale.lines():
        y, label = scale.y(value), escape(axes.tick(value))
        ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
        grid.append(f'<line class="grid" {ends}/>')
        place = f'x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end"'
        grid.append(f'<text class="tick" {place}>{label}</text>')
    grid += [
        f'<text class="tick" x="{x[at]:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{at}</text>'
        for at in _labelled(points)
    ]
    body = "".join([*grid, *marks])
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}"'
    return Markup(f'<svg class="chart" {box}>{body}</svg>')  # noqa: S704  # texts are escaped above


def _labelled(points: Sequence[Point]) -> list[int]:
    """The places that get a label: at most nine, the last always."""
    every = max(1, math.ceil((len(points) - 1) / 8))
    return [points[-1 - index].at for index in range(0, len(points), every)]
