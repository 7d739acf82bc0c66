"""Spans of time as people write them: "90s", "30m", "24h", "7d"."""

from __future__ import annotations

import argparse
import re

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def duration(text: str) -> float:
    """Seconds in `text`; raises argparse's error for anything but a number and s, m, h or d."""
    found = _FORM.fullmatch(text)
    if not found:
        msg = f"{text!r} is not a span of time; write a number and s, m, h or d, such as 24h"
        raise argparse.ArgumentTypeError(msg)
    return float(found[1]) * _SECONDS[found[2]]


def ago(seconds: float) -> str:
    """A span as one rounded figure, "3 m" or "2 d"."""
    for unit in "dhm":
        if seconds >= _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
