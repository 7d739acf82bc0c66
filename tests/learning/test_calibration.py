from __future__ import annotations

import numpy as np
import pytest

from reefleet.learning.calibration import (
    calibration_error,
    failure_auroc,
    fit_temperature,
    scaled_confidence,
)


def noisy_logits(count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, 5] and labels drawn from their own softmax: calibrated as they are."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (count, 5)).astype(np.float32)
    chances = np.exp(logits.astype(np.float64))
    chances /= chances.sum(1, keepdims=True)
    labels = (chances.cumsum(1) < rng.random((count, 1))).sum(1)
    return logits, labels


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    scaled = logits.astype(np.float64) / temperature
    whole = np.log(np.exp(scaled).sum(1))
    return float((whole - scaled[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_best_of_a_fine_grid(factor: float) -> None:
    logits, labels = noisy_logits()
    told = fit_temperature(logits * np.float32(factor), labels)
    grid = np.linspace(0.2, 5, 481)
    losses = [negative_log_likelihood(logits * factor, labels, t) for t in grid]
    assert told == pytest.approx(grid[int(np.argmin(losses))], abs=0.02)
    assert told == pytest.approx(factor, rel=0.1)


def test_a_temperature_stays_in_its_range_where_every_answer_is_right_or_wrong() -> None:
    logits = np.eye(3, dtype=np.float32)
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(0.05)
    assert fit_temperature(logits, (np.arange(3) + 1) % 3) == pytest.approx(20.0)
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0


def test_calibration_error_is_the_mean_gap_of_its_bins() -> None:
    confidences = np.array([0.05, 0.15, 0.95, 0.95, 1.0])
    correct = np.array([False, True, True, False, True])
    gaps = {0: (0.05, 0, 1), 1: (0.15, 1, 1), 9: (0.95 + 0.95 + 1.0, 2, 3)}
    expected = sum(abs(total - right) for total, right, _ in gaps.values()) / 5
    assert calibration_error(confidences, correct, 10) == pytest.approx(expected)


def test_scaling_by_the_temperature_lowers_the_error_of_overconfident_logits() -> None:
    logits, labels = noisy_logits()
    sharp = (logits * 3)[:, None]
    correct = sharp[:, 0].argmax(1) == labels
    before = calibration_error(scaled_confidence(sharp, np.ones(1))[:, 0], correct)
    fitted = np.array([fit_temperature(sharp[:, 0], labels)])
    after = calibration_error(scaled_confidence(sharp, fitted)[:, 0], correct)
    assert before > 0.2
    assert after < 0.03


def test_auroc_counts_pairs_and_halves_ties() -> None:
    rng = np.random.default_rng(1)
    confidences = rng.integers(0, 20, 200) / 20
    correct = rng.random(200) < confidences
    pairs = [(r, w) for r in confidences[correct] for w in confidences[~correct]]
    expected = sum((r > w) + (r == w) / 2 for r, w in pairs) / len(pairs)
    assert failure_auroc(confidences, correct) == pytest.approx(expected)
    assert np.isnan(failure_auroc(confidences, np.ones(200, bool)))
