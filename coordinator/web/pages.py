"""Templates, their words and charts, and pages that a browser need not fetch twice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from coordinator.store.overview import WorkDone
from coordinator.web import chart, figures
from coordinator.web.chart import Axes, Point
from coordinator.web.looks import RoundView

TEMPLATES = Path(__file__).parent / "templates"
LIVE_S = 2
# What the store calls it, and what people do.
WORDS = {
    "federate": "training",
    "personalize": "personalizing",
    "deploy": "trying a version",
    "committed": "done",
    "open": "open",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with its title and what it is of; '' where there is nothing to draw."""

    title: str
    note: str
    picture: Markup


class Renderer:
    """Renders templates; `version` names the static files' content."""

    def __init__(self, version: str, *, has_login: bool) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._templates.globals.update(
            version=version,
            has_login=has_login,
            live_s=LIVE_S,
            address=address,
            charts=round_charts,
            device_charts=device_charts,
            exits_chart=exits_chart,
            when=when,
        )
        self._templates.filters.update(
            size=figures.size,
            duration=figures.duration,
            share=figures.share,
            number=figures.number,
            path=lambda text: quote(text, safe=""),
            word=lambda text: WORDS.get(text, text),
        )

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page, or 304 where the browser has it as it is."""
        body = self._templates.get_template(template).render(path=request.url.path, **values)
        data = body.encode()
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers = {"etag": tag, "cache-control": "private, no-cache"}
        if status == 200 and request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, status, media_type="text/html", headers=headers)


def when(seconds: float | None) -> Markup:
    """A time: UTC as text, which the page's script turns into "3 min ago"."""
    if seconds is None:
        return Markup("{}").format(figures.DASH)
    said = Markup('<time datetime="{}">{}</time>')
    return said.format(figures.stamp(seconds), figures.clock(seconds))


def address(path: str, **query: object) -> str:
    """A path with what is not empty of its query."""
    kept = {name: value for name, value in query.items() if value not in {"", None, 1}}
    return f"{path}?{urlencode(kept)}" if kept else path


def round_charts(rounds: Sequence[RoundView]) -> list[Chart]:
    """The charts of a run."""
    closed = [one for one in rounds if one.closed_at is not None]
    accuracy = [
        Point(one.number, one.figures.accuracy, *(one.figures.accuracy_span or (None, None)))
        for one in closed
        if one.figures.accuracy is not None
    ]
    loss = [Point(one.number, one.counts.loss) for one in closed if one.counts.loss is not None]
    moved = [Point(one.number, float(one.counts.update_bytes)) for one in closed]
    took = [Point(one.number, one.seconds or 0.0) for one in closed]
    shares = chart.lines(_shares("Accuracy by round"), accuracy, share=True)
    losses = chart.lines(Axes("Training loss by round", _three, _two), loss)
    sizes = Axes("Bytes up by round", figures.size, figures.short_size)
    times = Axes("Duration by round", figures.duration, figures.short_duration)
    note = "deepest exit of each device, as the round began; the band spans the devices"
    return [
        Chart("Accuracy by round", note, shares),
        Chart("Training loss by round", "mean over the updates, weighted by samples", losses),
        Chart("Bytes up by round", "all accepted updates", chart.bars(sizes, moved, unit=1024.0)),
        Chart("Duration by round", "from opening to the new version", chart.bars(times, took)),
    ]


def device_charts(work: Sequence[WorkDone]) -> list[Chart]:
    """The charts of one device; `work` is newest first."""
    done = sorted((one for one in work if one.metrics), key=lambda one: one.round)
    shared, personal = (
        [
            Point(one.round, float(values[-1]))
            for one in done
            if (values := one.metrics.get(name)) and values[-1] is not None
        ]
        for name in ("shared_accuracy", "personal_accuracy")
    )
    return [
        Chart(title, note, chart.lines(_shares(title), points, share=True))
        for title, note, points in (
            ("Shared model here", "on this device's held-out data, before each round", shared),
            ("Personal model here", "on the same data, after each round", personal),
        )
    ]


def exits_chart(shares: Sequence[float]) -> Markup:
    """Where answers leave the network, a bar an exit."""
    points = [Point(index + 1, share) for index, share in enumerate(shares)]
    axes = Axes("Answers by exit", figures.share, figures.short_share, "exit")
    return chart.bars(axes, points)


def _shares(title: str) -> Axes:
    return Axes(title, figures.share, figures.short_share)


def _two(value: float) -> str:
    return figures.number(value, 2)


def _three(value: float) -> str:
    return figures.number(value, 3)
