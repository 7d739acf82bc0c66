"""What leaving early brings: calibration of each exit, and accuracy against mean MACs.

Temperatures and thresholds come from validation data and are applied to test data unchanged.
Shapes: N samples, E exits, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.learning.calibration import (
    calibration_error,
    failure_auroc,
    fit_temperature,
    scaled_confidence,
)
from reefleet.learning.thresholds import budgeted, choose, confidence, exits_taken

RATIOS = tuple(float(2.0**power) for power in np.linspace(-6, 6, 25))  # of the sweep


@dataclass(frozen=True, slots=True)
class Answers:
    """Logits [N, E, C] of every exit and the labels [N]."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which exits are right [N, E]."""
        return np.asarray(self.logits.argmax(-1) == self.labels[:, None])


def early_exit(validation: Answers, test: Answers, macs: Sequence[int]) -> dict[str, Any]:
    """Figures by exit, what the fleet's own thresholds give, the budgeted curve and its area.

    `macs` [E] is what a sample has cost when it leaves at each exit.
    """
    fitted = [
        fit_temperature(validation.logits[:, index], validation.labels)
        for index in range(validation.logits.shape[1])
    ]
    temperatures = np.asarray(fitted)
    plain = confidence(test.logits)
    known, met = (scaled_confidence(part.logits, temperatures) for part in (validation, test))
    right, exits = test.correct, range(len(fitted))
    curve = [_point(met, right, budgeted(known, ratio), macs) for ratio in RATIOS]
    ends = [(float(macs[index]), float(right[:, index].mean())) for index in (0, -1)]
    curve = sorted([*ends, *curve])
    chosen = choose(known, validation.correct)
    cost, accuracy = _point(met, right, chosen, macs)
    return {
        "temperature": fitted,
        "ece": [calibration_error(plain[:, i], right[:, i]) for i in exits],
        "ece_calibrated": [calibration_error(met[:, i], right[:, i]) for i in exits],
        "auroc": [failure_auroc(met[:, i], right[:, i]) for i in exits],
        "thresholds": list(chosen),
        "threshold_macs": cost,
        "threshold_accuracy": accuracy,
        "curve": [list(point) for point in curve],
    }


def area(curve: Sequence[Sequence[float]], least: float, most: float) -> float:
    """Mean accuracy over budgets from `least` to `most` mean MACs, along the curve's segments.

    Below its first point and above its last the curve is level. One budget: accuracy there.
    """
    costs, shares = (np.asarray(axis, np.float64) for axis in zip(*curve, strict=True))
    if most <= least:
        return float(np.interp(most, costs, shares))
    inside = costs[(costs > least) & (costs < most)]
    budgets = np.concatenate([[least], inside, [most]])
    values = np.interp(budgets, costs, shares)
    return float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(budgets)) / (most - least))


def _point(
    confidences: NDArray[np.float64],
    correct: NDArray[np.bool_],
    thresholds: tuple[float, ...],
    macs: Sequence[int],
) -> tuple[float, float]:
    taken = exits_taken(confidences, thresholds)
    right = correct[np.arange(len(taken)), taken]
    return float(np.asarray(macs, np.float64)[taken].mean()), float(right.mean())
