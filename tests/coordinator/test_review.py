"""Rounds change plans: late devices go down, and a restart knows what the rounds had taught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordinator.abandoned import OUT_OF_MEMORY, give_up
from coordinator.planner import Budget, decide, default_table, plan_for
from coordinator.planner.options import options_of
from coordinator.planner.solve import Decision
from coordinator.review import Review, _outcome
from devices import catalog
from devices.capability import capability_of
from reefleet.model import ModelSpec

SPEC = ModelSpec(8, 2, 1, 64, 4, 6, 10, (1, 2, 4, 6))
BUDGET = Budget(round_deadline_s=60.0, max_models=1, batch_sizes=(16,), min_bits=8, least_share=1.0)
PROFILE = catalog.reference_profile("rpi-4b", train_samples=250)


class NotedPlanning:
    """Stands in for Planning: notes changes."""

    def __init__(self) -> None:
        self.options = options_of(SPEC, BUDGET, default_table(SPEC))
        self.changes: list[tuple[str, int]] = []
        self.peaks: dict[str, float] = {}

    def change(self, changes: Sequence[tuple[Any, Decision]]) -> None:
        for device, decision in changes:
            self.changes.append((device.device_id, decision.candidate.exit_depth))
            peak = decision.options.at(decision.options.peak_mib, decision.chosen)
            self.peaks[device.device_id] = peak


def a_review(run: Any) -> tuple[Review, NotedPlanning]:
    planning = NotedPlanning()
    return Review(run.store, planning), planning  # type: ignore[arg-type]  # a stand-in


def begin(a_run: Callable[..., Any]) -> Any:
    """Two devices of full depth in an open round."""
    run = a_run(deadline_s=60.0, min_devices=2, total=9)
    plan = plan_for(PROFILE, SPEC, BUDGET)
    assert plan.exit_depth == 6
    for name in "ab":
        run.add_device(name, plan)
        run.store.set_plan(name, PROFILE.to_json(), plan, "test", run.store.device(name).bundle_key)
    return run


def late_round(run: Any, *, given_up: bool = False) -> None:
    """A round that a device never answers, or that the first one gives up for memory."""
    now = run.time.now
    number = run.store.rounds_closed() + 1
    from coordinator import records as r

    devices = run.store.devices()
    opened = r.Round(number, 0, r.OPEN, 2, now, now + 60)
    work = [
        r.Assignment(
            lease=f"{number}-{device.device_id}",
            kind=r.FEDERATE,
            round=number,
            device_id=device.device_id,
            plan=device.plan,
            base_version=0,
            manifest=r.Artifact("0" * 64, 1),
            signature=b"",
            weights=r.Artifact("0" * 64, 1),
            opened_at=now,
        )
        for device in devices
    ]
    run.store.add_round(opened, work)
    if given_up:
        give_up(run.store, "a", work[0].lease, OUT_OF_MEMORY, run.time.clock())
    run.store.stop_round(number, "quorum" if given_up else "deadline")
    run.store.close_round(number, now + 60, None)


def test_a_device_that_missed_the_deadline_gets_a_smaller_plan(a_run: Callable[..., Any]) -> None:
    run = begin(a_run)
    review, planning = a_review(run)
    late_round(run)
    review.catch_up()
    assert [name for name, _ in planning.changes] == ["a", "b"]
    assert all(depth < 6 for _, depth in planning.changes)


def test_a_device_that_ran_out_of_memory_gets_a_plan_of_less(a_run: Callable[..., Any]) -> None:
    run = begin(a_run)
    review, planning = a_review(run)
    options = planning.options
    before = options.at(options.peak_mib, decide(capability_of(PROFILE), options).chosen)
    late_round(run, given_up=True)
    review.catch_up()
    ((name, _),) = planning.changes
    assert name == "a"
    assert planning.peaks["a"] < before


def test_a_device_that_nobody_can_judge_keeps_its_plan_and_stops_nothing(
    a_run: Callable[..., Any],
) -> None:
    run = begin(a_run)
    review, planning = a_review(run)
    plan, key = run.store.device("a").plan, run.store.device("a").bundle_key
    run.store.set_plan("a", {"board": "", "of a newer program": 1}, plan, "test", key)
    late_round(run)
    review.catch_up()
    assert [name for name, _ in planning.changes] == ["b"]


def test_a_round_is_looked_at_once(a_run: Callable[..., Any]) -> None:
    run = begin(a_run)
    review, planning = a_review(run)
    late_round(run)
    review.catch_up()
    review.catch_up()
    assert len(planning.changes) == 2


def test_after_a_restart_the_same_rounds_teach_the_same(a_run: Callable[..., Any]) -> None:
    run = begin(a_run)
    first, before = a_review(run)
    late_round(run)
    late_round(run)
    first.catch_up()
    second, after = a_review(run)
    second.catch_up()
    assert after.changes == before.changes


def test_a_round_closed_by_quorum_says_nothing_of_the_slow(a_run: Callable[..., Any]) -> None:
    run = begin(a_run)
    _, planning = a_review(run)
    late_round(run)
    run.store.rounds()
    options = planning.options
    assert decide(capability_of(PROFILE), options).candidate.exit_depth == 6
    over = run.store.rounds()[0]
    work = run.store.assignments("federate", 1)[0]
    from dataclasses import replace

    assert _outcome(replace(over, reason="quorum"), work, {}) is None
    assert _outcome(over, work, {}) is not None
