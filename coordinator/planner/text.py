"""How the planner writes figures and choices."""

from __future__ import annotations

import math


def figure(value: float) -> str:
    """Three significant digits, never in powers of ten for the sizes met here."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rounded_up(value: float) -> float:
    """The next number of three significant digits that is not below `value`."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / step * (1 + 1e-9)) * step:.3g}")


def bits_text(count: int) -> str:
    """`count` bits in words."""
    return "1 bit" if count == 1 else f"{count} bits"


def models_text(count: int) -> str:
    """`count` models in words."""
    return "one model" if count == 1 else "two models"
