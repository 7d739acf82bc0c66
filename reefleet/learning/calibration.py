"""How far confidence can be trusted: a temperature per exit, calibration error, and AUROC.

Temperature scaling and the expected calibration error as Guo et al. (ICML 2017) state them; AUROC
of confidence as a predictor of right answers. Plain numpy. Shapes: N samples, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reefleet.learning.thresholds import confidence

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0
HALVINGS = 40  # of the bracket; leaves it below float64's resolution of a temperature
BINS = 15

Floats = NDArray[np.float64]


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature in [0.05, 20] of least cross-entropy for logits [N, C]; 1 for no sample.

    The cross-entropy is convex in 1 / T, so its slope is bisected.
    """
    if not len(labels):
        return 1.0
    values = logits.astype(np.float64)
    own = values[np.arange(len(labels)), labels]

    def slope(scale: float) -> float:
        return float((_softmax(values * scale) * values).sum(-1).mean() - own.mean())

    low, high = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def scaled_confidence(logits: NDArray[np.float32], temperatures: Floats) -> Floats:
    """Largest probability [N, E] of logits [N, E, C], each exit at its own temperature [E]."""
    return confidence((logits / temperatures[:, None]).astype(np.float32))


def calibration_error(confidences: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Mean distance of confidence [N] from accuracy over bins of equal width, by their share."""
    if not len(correct):
        return float("nan")
    which = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(which, confidences - correct, bins)
    return float(np.abs(gaps).sum() / len(correct))


def failure_auroc(confidences: Floats, correct: NDArray[np.bool_]) -> float:
    """Chance that a right answer is more confident than a wrong one; a tie counts half."""
    right, wrong = confidences[correct], np.sort(confidences[~correct])
    if not (len(right) and len(wrong)):
        return float("nan")
    below = np.searchsorted(wrong, right, "left")
    ties = np.searchsorted(wrong, right, "right") - below
    return float((below + ties / 2).mean() / len(wrong))


def _softmax(values: Floats) -> Floats:
    shifted = np.exp(values - values.max(-1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(-1, keepdims=True)
    return probabilities
