from __future__ import annotations

import numpy as np
import pytest

from reefleet.simulation.early_exit import Answers, area, early_exit

MACS = (10, 30)


def some_answers(seed: int, count: int = 400) -> Answers:
    """Two exits, the second better; confident answers are right more often."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    logits = rng.normal(0, 1, (count, 2, 4)).astype(np.float32)
    logits[np.arange(count), 0, labels] += 1.0
    logits[np.arange(count), 1, labels] += 2.5
    return Answers(logits, labels)


def test_the_area_is_the_mean_height_of_the_curve_over_the_budgets() -> None:
    curve = [(10.0, 0.5), (20.0, 0.7), (30.0, 0.8)]
    assert area(curve, 10, 30) == pytest.approx((10 * 0.6 + 10 * 0.75) / 20)
    assert area(curve, 15, 25) == pytest.approx((5 * 0.65 + 5 * 0.725) / 10)
    assert area(curve, 0, 40) == pytest.approx((10 * 0.5 + 10 * 0.6 + 10 * 0.75 + 10 * 0.8) / 40)
    assert area(curve, 20, 20) == pytest.approx(0.7)


def test_the_curve_runs_from_the_first_exit_to_the_last_at_their_costs() -> None:
    test = some_answers(1)
    found = early_exit(some_answers(0), test, MACS)
    first, last = test.correct.mean(0)
    assert found["curve"][0] == pytest.approx([10, first])
    assert found["curve"][-1] == pytest.approx([30, last])
    costs = [cost for cost, _ in found["curve"]]
    assert costs == sorted(costs)
    assert min(np.diff(costs)) < 1 < 20 / 3


def test_confidence_beats_leaving_at_random_at_the_same_cost() -> None:
    found = early_exit(some_answers(0), some_answers(1), MACS)
    (low, first), (high, last) = found["curve"][0], found["curve"][-1]
    inner = [(c, a) for c, a in found["curve"] if low + 2 < c < high - 2]
    assert inner
    assert all(a > first + (last - first) * (c - low) / (high - low) for c, a in inner)


def test_thresholds_come_from_validation_and_their_figures_from_test() -> None:
    known, met = some_answers(0), some_answers(1)
    assert (
        early_exit(known, met, MACS)["thresholds"] == early_exit(known, known, MACS)["thresholds"]
    )
    one, two = (early_exit(known, part, MACS)["threshold_accuracy"] for part in (met, known))
    assert one != two


def test_every_exit_has_its_figures() -> None:
    found = early_exit(some_answers(0), some_answers(1), MACS)
    assert all(len(found[key]) == 2 for key in ("temperature", "ece", "ece_calibrated", "auroc"))
    assert all(0.5 < value < 1 for value in found["auroc"])
