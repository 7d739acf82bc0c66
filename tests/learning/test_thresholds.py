from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reefleet.learning.thresholds import NEVER, budgeted, choose, confidence, exits_taken

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 5))
# Few distinct values, so that ties are common.
CONFIDENCES = st.sampled_from([0.25, 0.5, 0.5000001, 0.75, 0.9, 1.0])


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    confidences = draw(hnp.arrays(np.float64, shape, elements=CONFIDENCES))
    return confidences, draw(hnp.arrays(np.bool_, shape))


@given(judged(), st.integers(0, 4), st.floats(0, 1))
def test_raising_a_threshold_never_lets_more_leave(
    case: tuple[np.ndarray, np.ndarray], index: int, rise: float
) -> None:
    confidences, correct = case
    thresholds = choose(confidences, correct, minimum=1)
    if index >= len(thresholds) - 1:
        return
    higher = list(thresholds)
    higher[index] += rise
    before = exits_taken(confidences, thresholds)
    after = exits_taken(confidences, tuple(higher))
    assert (after == index).sum() <= (before == index).sum()
    assert (after >= before).all()


@given(judged())
def test_the_last_exit_accepts_all(case: tuple[np.ndarray, np.ndarray]) -> None:
    confidences, correct = case
    thresholds = choose(confidences, correct, minimum=1)
    assert thresholds[-1] == 0.0
    taken = exits_taken(np.zeros_like(confidences), (*[NEVER] * (len(thresholds) - 1), 0.0))
    assert (taken == len(thresholds) - 1).all()


@given(judged(), st.integers(1, 10), st.floats(0, 3))
def test_without_tolerance_no_validation_accuracy_is_lost(
    case: tuple[np.ndarray, np.ndarray], minimum: int, margin: float
) -> None:
    confidences, correct = case
    taken = exits_taken(confidences, choose(confidences, correct, 0.0, minimum, margin))
    assert correct[np.arange(len(taken)), taken].sum() >= correct[:, -1].sum()


@given(judged(), st.integers(1, 10))
def test_an_exit_is_used_by_enough_samples_or_by_none(
    case: tuple[np.ndarray, np.ndarray], minimum: int
) -> None:
    confidences, correct = case
    taken = exits_taken(confidences, choose(confidences, correct, 0.0, minimum))
    counts = np.bincount(taken, minlength=confidences.shape[1])[:-1]
    assert all(count == 0 or count >= minimum for count in counts)


def test_the_lowest_threshold_that_holds_is_taken() -> None:
    confidences = np.array([[0.9, 1], [0.8, 1], [0.7, 1], [0.6, 1]])
    correct = np.array([[True, True], [True, True], [False, True], [False, True]])
    assert choose(confidences, correct, 0.0, 1, 0.0) == (0.8, 0.0)
    assert choose(confidences, correct, 0.34, 1, 0.0) == (0.7, 0.0)
    assert choose(confidences, correct, 0.0, 3, 0.0) == (NEVER, 0.0)


def test_a_lucky_cut_is_not_believed() -> None:
    # One answer lost and one won below it: even, but on two answers that says little.
    confidences = np.array([[0.9, 1], [0.8, 1], [0.7, 1]])
    correct = np.array([[True, True], [False, True], [True, False]])
    assert choose(confidences, correct, 0.0, 1, margin=0.0) == (0.7, 0.0)
    assert choose(confidences, correct, 0.0, 1, margin=1.0) == (0.9, 0.0)


def test_an_exit_better_than_the_deepest_takes_everything() -> None:
    confidences = np.array([[0.4, 1], [0.5, 1]])
    correct = np.array([[True, False], [True, True]])
    assert choose(confidences, correct, 0.0, 1) == (0.4, 0.0)


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32)))
def test_confidence_is_the_largest_softmax_probability(logits: np.ndarray) -> None:
    exact = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = exact / exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(confidence(logits), probabilities.max(axis=1), rtol=1e-12)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_a_budget_gives_each_exit_its_share(ratio: float) -> None:
    confidences = np.random.default_rng(3).random((4000, 4))
    taken = exits_taken(confidences, budgeted(confidences, ratio))
    shares = ratio ** np.arange(4.0)
    assert np.bincount(taken, minlength=4) / 4000 == pytest.approx(shares / shares.sum(), abs=1e-3)


def test_who_leaves_on_a_budget_is_the_most_confident() -> None:
    confidences = np.array([[0.2, 0.5], [0.9, 0.5], [0.4, 0.5], [0.7, 0.5]])
    assert list(exits_taken(confidences, budgeted(confidences, 1.0))) == [1, 0, 1, 0]
