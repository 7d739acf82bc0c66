from __future__ import annotations

import argparse

import pytest

from reefleet.cli.duration import ago, duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800), ("1.5h", 5400)],
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1 h", "1w", "soon"])
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="24h"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (61, "1 m"), (7200, "2 h"), (200000, "2 d")]
)
def test_a_span_is_shown_in_its_largest_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text
