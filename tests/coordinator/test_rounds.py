"""The life of a round, with a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coordinator import records as r
from coordinator.rounds import RESTART_GRACE_S, Finished, Wait
from reefleet.model import tensor_shapes

MakeRun = Callable[..., Any]


def test_no_round_opens_before_enough_devices_are_ready(a_run: MakeRun) -> None:
    run = a_run(2, 2, min_devices=3)
    run.rounds.advance()
    assert run.rounds.next_task("a") == Wait(run.policy.poll_ms)
    run.add_device("c")
    run.rounds.advance()
    assert run.work("a").round == 1


def test_each_device_gets_its_own_depth_and_the_current_version(a_run: MakeRun) -> None:
    run = a_run(1, 2)
    run.rounds.advance()
    shallow, deep = run.work("a"), run.work("b")
    assert (shallow.plan.exit_depth, deep.plan.exit_depth) == (1, 2)
    assert shallow.base_version == deep.base_version == 0
    assert shallow.weights.size_bytes < deep.weights.size_bytes


def test_the_same_lease_comes_again_until_the_work_is_done(a_run: MakeRun) -> None:
    run = a_run(2, 2)
    run.rounds.advance()
    assert run.work("a") == run.work("a")
    run.push("a")
    assert isinstance(run.rounds.next_task("a"), Wait)


def test_a_version_is_the_plain_holder_wise_mean_bit_for_bit(a_run: MakeRun, delta: Any) -> None:
    run = a_run(1, 2, 2)
    before = run.versions.load(0)
    run.rounds.advance()
    samples = {"a": 10, "b": 20, "c": 5}
    # Pushed out of order: the fold goes by device id.
    for seed, name in enumerate("cab"):
        run.push(name, seed=seed, samples=samples[name])
    run.rounds.advance()
    deltas = {"c": delta(2, 0), "a": delta(1, 1), "b": delta(2, 2)}
    after = run.versions.load(1)
    for name in tensor_shapes(run.versions.spec):
        total, weight = np.zeros(before[name].shape, np.float32), 0.0
        for device in "abc":
            if name in deltas[device]:
                total += deltas[device][name] * np.float32(samples[device])
                weight += samples[device]
        expected = before[name] + total / np.float32(weight)
        assert np.array_equal(after[name], expected), name


def test_a_round_closes_at_quorum_without_the_slow_ones(a_run: MakeRun) -> None:
    run = a_run(2, 2, 2, quorum=0.6)
    run.rounds.advance()
    late = run.work("c")
    for name in "ab":
        run.push(name)
    run.rounds.advance()
    assert [(x.state, x.reason) for x in run.store.rounds()] == [(r.CLOSED, "quorum"), (r.OPEN, "")]
    assert run.store.assignment(late.lease).state == r.EXPIRED
    assert run.work("c").round == 2


@pytest.mark.parametrize(("quorum", "devices", "needed"), [(0.7, 3, 3), (0.6, 5, 3), (0.01, 2, 1)])
def test_quorum_is_rounded_up_but_not_by_float_noise(
    a_run: MakeRun, quorum: float, devices: int, needed: int
) -> None:
    run = a_run(*[1] * devices, quorum=quorum)
    run.rounds.advance()
    assert run.store.current_round().needed == needed


def test_a_round_closes_at_its_deadline_with_what_it_has(a_run: MakeRun) -> None:
    run = a_run(2, 2, deadline_s=100.0)
    run.rounds.advance()
    run.push("a")
    run.time.pass_s(99)
    run.rounds.advance()
    assert run.store.current_round().number == 1
    run.time.pass_s(2)
    run.rounds.advance()
    assert run.store.rounds()[0].reason == "deadline"
    assert run.store.latest_version().number == 1


def test_a_jump_of_the_wall_clock_does_not_close_a_round(a_run: MakeRun) -> None:
    run = a_run(2, 2, deadline_s=100.0)
    run.rounds.advance()
    run.time.now += 86400
    run.rounds.advance()
    assert run.store.current_round().number == 1
    assert run.rounds.seconds_left() == pytest.approx(100.0)


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_after_a_restart_the_lease_stays_within_bounds_whatever_the_clock_says(
    a_run: MakeRun, jump: float
) -> None:
    run = a_run(2, 2, deadline_s=100.0)
    run.rounds.advance()
    lease = run.work("a").lease
    run.time.now += jump
    run.restart()
    run.rounds.advance()
    assert RESTART_GRACE_S <= run.rounds.seconds_left() <= 100.0
    assert run.work("a").lease == lease


def test_a_restart_in_mid_round_continues_with_the_same_updates(a_run: MakeRun) -> None:
    run = a_run(1, 2)
    run.rounds.advance()
    run.push("a", seed=1)
    leases = [a.lease for a in run.store.assignments(r.FEDERATE, 1)]
    run.restart()
    run.rounds.advance()
    assert [a.lease for a in run.store.assignments(r.FEDERATE, 1)] == leases
    run.push("b", seed=2)
    run.rounds.advance()
    assert [update.device_id for update in run.store.updates(1)] == ["a", "b"]
    assert run.store.latest_version().number == 1


def test_a_restart_between_stopping_and_closing_a_round_closes_it(a_run: MakeRun) -> None:
    run = a_run(2)
    run.rounds.advance()
    run.push("a")
    run.store.stop_round(1, "quorum")
    run.restart()
    run.rounds.advance()
    assert run.store.rounds()[0].state == r.CLOSED
    assert run.store.latest_version().number == 1


def test_a_round_without_any_update_leaves_the_model_as_it_was(a_run: MakeRun) -> None:
    run = a_run(2, deadline_s=100.0)
    run.rounds.advance()
    run.time.pass_s(101)
    run.rounds.advance()
    first = run.store.rounds()[0]
    assert (first.state, first.result_version) == (r.CLOSED, 0)
    assert run.store.latest_version().number == 0


def test_devices_that_are_away_are_not_invited(a_run: MakeRun) -> None:
    run = a_run(2, 2, min_devices=1, presence_s=60.0, deadline_s=50.0)
    run.time.pass_s(61)
    run.rounds.advance()
    assert run.store.current_round() is None
    assert run.presence.note("b") is True
    run.rounds.advance()
    assert [a.device_id for a in run.store.assignments(r.FEDERATE, 1)] == ["b"]


def test_after_the_last_round_each_device_does_its_personal_work_once(a_run: MakeRun) -> None:
    run = a_run(2, 2, total=1)
    run.rounds.advance()
    for name in "ab":
        run.push(name)
    run.rounds.advance()
    work = run.work("a")
    assert (work.kind, work.round, work.base_version) == (r.PERSONALIZE, 2, 1)
    run.restart()
    run.rounds.advance()
    assert run.work("a").lease == work.lease
    run.store.add_report(work.lease, r.PersonalReport(2, "a", {}, {}, run.time.now))
    assert run.rounds.next_task("a") == Finished()
    assert run.work("b").kind == r.PERSONALIZE


def test_a_device_that_comes_after_the_last_round_still_gets_personal_work(a_run: MakeRun) -> None:
    run = a_run(2, total=1)
    run.rounds.advance()
    run.push("a")
    run.rounds.advance()
    run.add_device("late")
    run.rounds.advance()
    assert run.work("late").kind == r.PERSONALIZE


def test_more_rounds_in_the_settings_go_on_where_the_run_ended(a_run: MakeRun) -> None:
    run = a_run(2, total=1)
    run.rounds.advance()
    run.push("a")
    run.rounds.advance()
    run.policy = type(run.policy)(total=2, min_devices=1, quorum=1.0)
    run.restart()
    run.rounds.advance()
    assert (run.work("a").kind, run.work("a").round) == (r.FEDERATE, 2)


def test_an_assignment_lets_its_device_fetch_what_it_names_and_nobody_else(a_run: MakeRun) -> None:
    run = a_run(1, 2)
    run.rounds.advance()
    work = run.work("a")
    bundle = run.store.bundle(run.store.device("a").bundle_key)
    for artifact in (work.manifest, work.weights, *bundle.files):
        assert run.store.may_fetch("a", artifact.sha256)
        assert not run.store.may_fetch("b", artifact.sha256)
