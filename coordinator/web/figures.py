"""Figures as people read them: bytes, durations, shares, times; None is a dash."""

from __future__ import annotations

import math
import time

DASH = "–"  # noqa: RUF001  # what people write for "nothing here"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float | None) -> str:
    """Bytes with a unit, three digits at most before the point."""
    if count is None or not math.isfinite(count):
        return DASH
    value = float(count)
    for unit in _UNITS[:-1]:
        if abs(value) < _STEP:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _STEP
    return f"{value:.1f} {_UNITS[-1]}"


def short_size(count: float) -> str:
    """Bytes at an axis: without a fraction where there is none."""
    return size(count).replace(".0 ", " ")


def short_duration(seconds: float) -> str:
    """Seconds at an axis, in one unit."""
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def short_share(value: float) -> str:
    """A share at an axis."""
    return f"{value * 100:.4g} %"


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units that matter."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def share(value: float | None) -> str:
    """A share of one in percent."""
    return DASH if value is None or not math.isfinite(value) else f"{value * 100:.1f} %"


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands apart."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def clock(seconds: float | None) -> str:
    """Wall time in UTC, to the second."""
    if seconds is None:
        return DASH
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def stamp(seconds: float) -> str:
    """Wall time as a machine reads it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
