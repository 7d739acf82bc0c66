"""Charts: scales people can read, and pictures without anything a page's policy forbids."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from coordinator.web import chart, figures
from coordinator.web.chart import Axes, Point, scale_of

SHARES = Axes("Accuracy", figures.share, figures.short_share)
SIZES = Axes("Bytes", figures.size, figures.short_size)
SVG = "{http://www.w3.org/2000/svg}"


def ticks(picture: str) -> list[str]:
    root = ET.fromstring(picture)  # noqa: S314  # our own
    return [text.text or "" for text in root.iter("text") if text.get("text-anchor") == "end"]


@pytest.mark.parametrize(
    ("values", "from_zero", "unit", "lines"),
    [
        ([0.0, 10.0], True, 1.0, [0.0, 2.5, 5.0, 7.5, 10.0]),
        ([7.0], True, 1.0, [0.0, 2.0, 4.0, 6.0, 8.0]),
        ([0.0], True, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ([3.0 * 2**20, 2.0**20], True, 1024.0, [0.0, 2**20, 2 * 2**20, 3 * 2**20]),
        ([0.91, 0.97], False, 1.0, [0.9, 0.92, 0.94, 0.96, 0.98]),
    ],
)
def test_lines_lie_at_round_values_around_the_data(
    values: list[float], from_zero: bool, unit: float, lines: list[float]
) -> None:
    assert scale_of(values, from_zero=from_zero, unit=unit).lines() == pytest.approx(lines)


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.5, 1.0])
def test_a_value_that_never_changes_is_drawn_within_the_picture(value: float) -> None:
    picture = chart.lines(SHARES, [Point(1, value), Point(2, value)], share=True)
    ys = [float(dot.get("cy", "nan")) for dot in ET.fromstring(picture).iter("circle")]  # noqa: S314
    assert all(0 <= y <= chart.HEIGHT for y in ys)
    assert len(ys) == 2


@pytest.mark.parametrize("second", [0.7, 0.7 + 1e-16, 0.7004, 0.71])
def test_no_two_lines_of_a_picture_read_the_same(second: float) -> None:
    read = ticks(chart.lines(SHARES, [Point(1, 0.7), Point(2, second)], share=True))
    assert len(set(read)) == len(read) >= 3


def test_shares_never_leave_what_shares_can_be() -> None:
    picture = chart.lines(SHARES, [Point(1, 0.02), Point(2, 0.99, 0.0, 1.0)], share=True)
    assert ticks(picture)[0] == "0 %"
    assert ticks(picture)[-1] == "100 %"


def test_sizes_are_told_in_whole_units() -> None:
    picture = chart.bars(SIZES, [Point(1, 1.9 * 2**20), Point(2, 2.0**20)], unit=1024.0)
    assert ticks(picture) == ["0 B", "512 KiB", "1 MiB", "1.5 MiB", "2 MiB"]


def test_a_picture_says_in_words_what_it_shows_and_forbids_nothing() -> None:
    hostile = Axes('<script>"x"</script>', figures.share, figures.short_share)
    picture = str(chart.lines(hostile, [Point(1, 0.5), Point(3, 0.75)]))
    root = ET.fromstring(picture)  # noqa: S314
    said = root.get("aria-label") or ""
    assert said.endswith("50.0 % in round 1, 75.0 % in round 3")
    assert [mark.text for mark in root.iter("title")] == ["Round 1: 50.0 %", "Round 3: 75.0 %"]
    assert not {tag.tag for tag in root.iter()} & {"script", "style", f"{SVG}script"}
    assert all("style" not in tag.attrib for tag in root.iter())


def test_nothing_is_drawn_of_nothing() -> None:
    assert chart.lines(SHARES, []) == chart.bars(SIZES, []) == ""


def test_many_rounds_get_few_labels_and_one_dot() -> None:
    points = [Point(number, number / 500) for number in range(1, 501)]
    root = ET.fromstring(chart.lines(SHARES, points))  # noqa: S314
    labels = [t.text for t in root.iter("text") if t.get("text-anchor") == "middle"]
    assert len(labels) <= 9
    assert "500" in labels
    assert len(list(root.iter("circle"))) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.25, "0.2 s"), (59.4, "59 s"), (61, "1 min 1 s"), (7200, "2 h 0 min")],  # noqa: RUF001
)
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (512, "512 B"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB")],  # noqa: RUF001
)
def test_sizes_read_as_people_say_them(count: float | None, text: str) -> None:
    assert figures.size(count) == text
