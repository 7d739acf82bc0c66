"""How the planner writes figures and choices."""

from __future__ import annotations

import math
from typing import Protocol


class Sized(Protocol):
    """What has bits: a plan or a candidate."""

    @property
    def bits(self) -> int:
        """Bits of every quantized weight, where they agree."""

    @property
    def layer_bits(self) -> tuple[int, ...]:
        """Bits of each quantized tensor, empty where they agree."""


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


def width_text(sized: Sized) -> str:
    """Its bits in words, mixed ones by their range."""
    if not sized.layer_bits:
        return bits_text(sized.bits)
    return f"{min(sized.layer_bits)} to {max(sized.layer_bits)} bits by layer"


def epochs_text(epochs: float) -> str:
    """So many epochs, or a share of one, in words."""
    if epochs < 1:
        return f"{epochs:.0%} of an epoch"
    return "1 epoch" if epochs == 1 else f"{epochs:.0f} epochs"
