"""Plans go down at once, up slowly, and never to and fro."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.planner import Budget, default_table
from coordinator.planner.hysteresis import (
    REST_ROUNDS,
    STEADY_ROUNDS,
    Expectation,
    History,
    Outcome,
    follow,
    observe,
    settle,
)
from coordinator.planner.options import options_of
from devices import catalog
from devices.capability import Capability, capability_of
from reefleet.errors import NoFeasiblePlan
from reefleet.model import ModelSpec

SPEC = ModelSpec(8, 2, 1, 64, 4, 6, 10, (1, 2, 4, 6))
BUDGET = Budget(round_deadline_s=60.0, max_models=1, batch_sizes=(16,), least_share=1.0)
OPTIONS = options_of(SPEC, BUDGET, default_table(SPEC))
DONE, LATE = Outcome("done"), Outcome("late")
EXPECTED = Expectation(1.0, 60.0)


def a_device(mib: int | None = None) -> Capability:
    profile = catalog.reference_profile("rpi-4b", train_samples=250)
    return capability_of(replace(profile, memory_available_mib=mib) if mib else profile)


def depths(outcomes: list[Outcome]) -> list[int]:
    """Exit depth after each round."""
    return [
        follow(a_device(), OPTIONS, outcomes[:count])[0].candidate.exit_depth
        for count in range(len(outcomes) + 1)
    ]


def test_a_missed_deadline_lowers_the_plan_at_once() -> None:
    before, after = depths([LATE])
    assert before == 6
    assert after < before


def test_a_device_that_stays_late_goes_down_to_the_least_and_stays_in_the_fleet() -> None:
    decision, _ = follow(a_device(), OPTIONS, [LATE] * 20)
    assert decision.candidate.exit_depth == 1


def test_recovery_raises_it_again_and_ends_where_it_began() -> None:
    found = depths([LATE, *[DONE] * 60])
    assert found[0] == 6
    assert found[1] < 6
    assert found[-1] == 6
    assert found[1:] == sorted(found[1:])


def test_a_step_up_waits_for_steady_rounds_and_rest() -> None:
    found = depths([LATE, *[DONE] * 60])
    changes = [n for n in range(1, len(found)) if found[n] != found[n - 1]]
    gaps = [later - earlier for earlier, later in pairwise(changes)]
    assert all(gap >= max(STEADY_ROUNDS, REST_ROUNDS) for gap in gaps)


def test_memory_that_wavers_around_a_bound_does_not_make_plans_flap() -> None:
    current = settle(a_device(230), OPTIONS, None, History())
    decision, history = current
    changes = 0
    for round_number in range(40):
        device = a_device(230 + 30 * (round_number % 2))
        before = decision.candidate
        decision, history = settle(device, OPTIONS, before, history)
        history = observe(history, DONE, EXPECTED)
        changes += decision.candidate != before
    assert changes <= 1


def test_a_plan_that_no_longer_fits_is_lowered_at_once() -> None:
    decision, history = settle(a_device(), OPTIONS, None, History())
    after, _ = settle(a_device(200), OPTIONS, decision.candidate, history)
    assert after.candidate.exit_depth < decision.candidate.exit_depth


def test_more_memory_raises_a_plan_only_after_steady_rounds() -> None:
    decision, history = settle(a_device(200), OPTIONS, None, History())
    low = decision.candidate.exit_depth
    seen = []
    for _ in range(REST_ROUNDS + STEADY_ROUNDS):
        decision, history = settle(a_device(), OPTIONS, decision.candidate, history)
        history = observe(history, DONE, EXPECTED)
        seen.append(decision.candidate.exit_depth)
    assert seen[:REST_ROUNDS] == [low] * REST_ROUNDS
    assert seen[-1] == 6


def test_running_out_of_memory_teaches_caution_about_memory() -> None:
    history = observe(History(), Outcome("memory"), EXPECTED)
    assert history.caution.memory > 1
    assert history.caution.time == 1


def test_out_of_memory_lowers_the_plan_at_once_however_much_was_thought_free() -> None:
    before = follow(a_device(), OPTIONS, [])[0]
    after = follow(a_device(), OPTIONS, [Outcome("memory")])[0]
    peaks = [OPTIONS.at(OPTIONS.peak_mib, each.chosen) for each in (before, after)]
    assert peaks[1] < peaks[0]


def test_a_device_measured_slow_is_planned_as_slow() -> None:
    slow = History()
    for _ in range(30):
        slow = observe(slow, Outcome("done", 3.0), EXPECTED)
    assert slow.caution.time == pytest.approx(3.0, rel=0.05)


def test_a_budget_that_nothing_meets_is_still_an_error() -> None:
    options = options_of(SPEC, replace(BUDGET, latency_ms=0.01), default_table(SPEC))
    with pytest.raises(NoFeasiblePlan):
        settle(a_device(), options, None, History())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([DONE, LATE, Outcome("lost"), Outcome("memory")]), max_size=25))
def test_the_same_rounds_always_give_the_same_plan_within_the_budget(
    outcomes: list[Outcome],
) -> None:
    decision, history = follow(a_device(), OPTIONS, outcomes)
    assert follow(a_device(), OPTIONS, outcomes)[0].candidate == decision.candidate
    assert history.caution.time >= 1
    trusted, _ = settle(a_device(), OPTIONS, None, History())
    assert trusted.fitting[OPTIONS.candidates.index(decision.candidate)]
