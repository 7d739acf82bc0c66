"""Confidence thresholds of early exits, chosen on held-out data; plain numpy.

Confidence is the largest softmax probability. Walking the exits in order, each takes the lowest
threshold at which the answers that leave there are as accurate, within a tolerance, as the deepest
exit is on these same samples. What is lost against the deepest exit is taken a standard error high,
because a device holds few samples and the luckiest cut of many is seldom the best one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reefleet.learning.caution import DEFAULT_MARGIN, DEFAULT_MINIMUM, DEFAULT_TOLERANCE

NEVER = 2.0  # above every probability: nobody leaves


def confidence(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest softmax probability over the last axis; computed in float64."""
    values = logits.astype(np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    top: NDArray[np.float64] = 1.0 / np.exp(shifted).sum(axis=-1)
    return top


def choose(
    confidences: NDArray[np.float64],
    correct: NDArray[np.bool_],
    tolerance: float = DEFAULT_TOLERANCE,
    minimum: int = DEFAULT_MINIMUM,
    margin: float = DEFAULT_MARGIN,
) -> tuple[float, ...]:
    """One threshold an exit from confidences and hits [N, E]; the last is 0.0.

    `minimum` samples must leave at an exit for its threshold to be believed; `margin` is in
    standard errors of the number of answers lost, 0 takes that number as it was seen.
    """
    rule = _Rule(tolerance, minimum, margin)
    exits = confidences.shape[1]
    left = np.arange(len(confidences))
    chosen = []
    for index in range(exits - 1):
        threshold = _lowest(confidences[left, index], correct[left, index], correct[left, -1], rule)
        chosen.append(threshold)
        left = left[confidences[left, index] < threshold]
    return (*chosen, 0.0)


def exits_taken(
    confidences: NDArray[np.float64], thresholds: tuple[float, ...]
) -> NDArray[np.int64]:
    """Index of the exit each sample leaves at, from confidences [N, E]; the last accepts all."""
    passes = confidences >= np.asarray(thresholds)
    passes[:, -1] = True
    taken: NDArray[np.int64] = passes.argmax(axis=1)
    return taken


def budgeted(confidences: NDArray[np.float64], ratio: float) -> tuple[float, ...]:
    """Thresholds at which exit k takes a share proportional to ratio^k of confidences [N, E].

    MSDNet's budgeted batch (Huang et al., ICLR 2018): the exits in order, each taking the most
    confident of those that are left. A small ratio leaves early, a large one late.
    """
    count, exits = confidences.shape
    share = ratio ** np.arange(exits, dtype=np.float64)
    share /= share.sum()
    left = np.arange(count)
    chosen = []
    for index in range(exits - 1):
        take = min(round(count * share[index]), len(left))
        ranked = np.sort(confidences[left, index])[::-1]
        threshold = float(ranked[take - 1]) if take else NEVER
        chosen.append(threshold)
        left = left[confidences[left, index] < threshold]
    return (*chosen, 0.0)


@dataclass(frozen=True, slots=True)
class _Rule:
    tolerance: float
    minimum: int
    margin: float


def _lowest(
    values: NDArray[np.float64],
    correct: NDArray[np.bool_],
    deepest: NDArray[np.bool_],
    rule: _Rule,
) -> float:
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    count = np.arange(1, len(ranked) + 1)
    change = deepest[order].astype(np.int64) - correct[order].astype(np.int64)
    lost = np.cumsum(change) + rule.margin * np.sqrt(np.cumsum(change > 0))
    # Samples of equal confidence leave together, so only the last of a tie is a place to cut.
    ends = np.append(ranked[1:] < ranked[:-1], True)[: len(ranked)]
    good = ends & (count >= rule.minimum) & (lost <= rule.tolerance * count)
    return float(ranked[np.flatnonzero(good)[-1]]) if good.any() else NEVER
