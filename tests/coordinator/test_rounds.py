"""The life of a round, with a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordinator import records as r
from coordinator.deadline import RESTART_GRACE_S
from coordinator.rounds import Finished, Wait
from reefleet.aggregation.clipping import Clipping
from reefleet.aggregation.optimizers import ServerOptimizer
from reefleet.errors import Rejected, WireError
from reefleet.model import tensor_shapes
from reefleet.wire.codecs import encode_update

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


def test_more_are_invited_than_are_needed_and_the_rest_is_told_why(a_run: MakeRun) -> None:
    run = a_run(2, 2, 2, 2, 2, cohort=3, over_selection=0.3, quorum=1.0, min_devices=5)
    run.rounds.advance()
    work = run.store.assignments(r.FEDERATE, 1)
    assert (len(work), run.store.current_round().needed) == (4, 3)
    for assignment in work[:3]:
        run.push(assignment.device_id)
    run.rounds.advance()
    assert run.store.rounds()[0].reason == "quorum"
    with pytest.raises(Rejected, match=r"round 1 closed without it \(quorum\)"):
        run.upload(work[3], b"late")


@pytest.mark.parametrize(("share", "invited"), [(0.1, 11), (0.2, 12), (0.25, 13)])
def test_over_selection_is_rounded_up_but_not_by_float_noise(
    a_run: MakeRun, share: float, invited: int
) -> None:
    run = a_run(2, 2, 2, 2, 2, 2, 2, 2, cohort=10, over_selection=share, min_devices=1)
    for name in "ijklmnop":
        run.add_device(name)
    run.rounds.advance()
    assert len(run.store.assignments(r.FEDERATE, 1)) == invited


def late_run(a_run: MakeRun, **policy: Any) -> Any:
    run = a_run(2, 2, quorum=0.5, late="fold", total=4, **policy)
    run.rounds.advance()
    return run


def commit(run: Any, work: r.Assignment, delta: Any) -> bool:
    data, _ = encode_update(delta, "float32", {})
    return bool(run.updates.commit(work.device_id, work.lease, run.upload(work, data), 10, {}))


def test_a_late_update_is_folded_in_the_next_round_and_counts_less(
    a_run: MakeRun, delta: Any
) -> None:
    run = late_run(a_run)
    late = run.work("b")
    run.push("a", seed=1)
    run.rounds.advance()
    before = run.versions.load(1)
    assert commit(run, late, delta(2, 5)) is False
    assert commit(run, late, delta(2, 5)) is True
    run.push("a", seed=2)
    run.rounds.advance()
    assert [(x.device_id, x.round, x.folded_in) for x in run.store.updates(2)] == [
        ("b", 1, 2),
        ("a", 2, 2),
    ]
    after, shrink = run.versions.load(2), np.float32(2**-0.5)
    for name, value in before.items():
        expected = value + (delta(2, 5)[name] * shrink + delta(2, 2)[name]) / 2
        assert after[name] == pytest.approx(expected, abs=1e-6)


def test_an_update_too_late_is_refused_with_the_reason(a_run: MakeRun, delta: Any) -> None:
    run = late_run(a_run, max_staleness=1)
    late = run.work("b")
    for seed in range(2):
        run.push("a", seed=seed)
        run.rounds.advance()
    with pytest.raises(Rejected, match="started 2 versions ago; an update counts up to 1"):
        commit(run, late, delta(2, 5))
    assert [x.device_id for x in run.store.refusals()] == ["b"]


def test_a_round_that_closes_between_check_and_commit_makes_the_update_a_late_one(
    a_run: MakeRun, delta: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = late_run(a_run)
    late = run.work("b")
    checked = run.updates._check

    def close_meanwhile(*arguments: Any, **named: Any) -> Any:
        found = checked(*arguments, **named)
        run.store.stop_round(1, "quorum")
        return found

    monkeypatch.setattr(run.updates, "_check", close_meanwhile)
    assert commit(run, late, delta(2, 5)) is False
    assert next(u for u in run.store.updates() if u.lease == late.lease).folded_in is None


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi"])
def test_what_the_server_optimizer_remembers_outlives_a_restart(
    a_run: MakeRun, delta: Any, name: Any
) -> None:
    optimizer = ServerOptimizer(name, rate=0.1)
    run = a_run(2, total=3, optimizer=optimizer)
    model, memory = run.versions.load(0), {}
    for seed in range(3):
        run.rounds.advance()
        run.push("a", seed=seed)
        run.rounds.advance()
        model, memory = optimizer.step(model, delta(2, seed), memory)
        run.restart()
    last = run.versions.load(3)
    assert all(last[n] == pytest.approx(value, abs=1e-5) for n, value in model.items())
    assert run.store.version(3).optimizer is not None
    assert run.store.version(3).optimizer.sha256 in run.store.needed_blobs()


def test_an_optimizer_may_be_changed_in_the_middle_of_a_run(a_run: MakeRun) -> None:
    run = a_run(2, total=2, optimizer=ServerOptimizer("fedavgm"))
    run.rounds.advance()
    run.push("a")
    run.rounds.advance()
    run.policy = replace(run.policy, optimizer=ServerOptimizer("fedyogi", rate=0.1))
    run.restart()
    run.push("a")
    run.rounds.advance()
    assert {n.split("/")[0] for n in run.versions.load_memory(2)} == {"fedyogi"}


@pytest.mark.parametrize("rule", ["trimmed-mean", "median", "krum"])
def test_a_bad_minority_cannot_drag_the_model(a_run: MakeRun, delta: Any, rule: str) -> None:
    run = a_run(2, 2, 2, 1, 1, total=1, rule=rule, trim=0.34, krum_bad_share=0.34)
    before = run.versions.load(0)
    run.rounds.advance()
    for seed, name in enumerate("abde"):
        run.push(name, seed=seed)
    far = {n: value + np.float32(1) for n, value in delta(2, 9).items()}
    commit(run, run.work("c"), far)
    run.rounds.advance()
    after = run.versions.load(1)
    assert all(np.abs(after[name] - value).max() < 0.1 for name, value in before.items())
    assert any(not np.array_equal(after[name], value) for name, value in before.items())


def test_updates_are_shortened_to_the_median_of_recent_ones(a_run: MakeRun, delta: Any) -> None:
    run = a_run(2, 2, 2, total=1, clipping=Clipping(median_of=3))
    before = run.versions.load(0)
    run.rounds.advance()
    for seed, name in enumerate("ab"):
        run.push(name, seed=seed)
    long = {n: value * np.float32(50) for n, value in delta(2, 2).items()}
    commit(run, run.work("c"), long)
    rms = {x.device_id: x.rms for x in run.store.updates()}
    bound = sorted(rms.values())[1]
    run.rounds.advance()
    after = run.versions.load(1)
    for name, value in before.items():
        moves = [delta(2, s)[name] * min(1.0, bound / rms[d]) for s, d in enumerate("ab")]
        moves.append(long[name] * (bound / rms["c"]))
        assert after[name] == pytest.approx(value + sum(moves) / 3, abs=1e-5)


def test_a_device_is_given_the_codec_that_its_client_knows(a_run: MakeRun) -> None:
    run = a_run(2, 2, device_clip=2.5)
    run.store.set_codecs("b", "clip,float32,float16,int8")
    run.rounds.advance()
    assert [run.work(name).plan.codec for name in "ab"] == ["float32", "clip:2.5,float32"]


def test_a_client_that_does_not_clip_as_it_was_told_is_refused(a_run: MakeRun, delta: Any) -> None:
    run = a_run(2, device_clip=0.01)
    run.store.set_codecs("a", "clip,float32")
    run.rounds.advance()
    with pytest.raises(WireError, match=r"should have been clipped to 0.01, its norm is"):
        commit(run, run.work("a"), delta(2, 0))
    run = run.store.refusals()
    assert len(run) == 1


@pytest.mark.parametrize("restarts", [False, True])
def test_a_device_that_trains_ten_minutes_between_two_calls_keeps_its_work(
    a_run: MakeRun, delta: Any, restarts: bool
) -> None:
    run = a_run(2, 2, deadline_s=3600.0, presence_s=60.0)
    run.rounds.advance()
    work = run.work("a")
    run.push("b")
    for _ in range(10):
        run.time.pass_s(60)
        run.rounds.advance()
    assert not run.presence.is_present("a")
    if restarts:
        run.restart()
        run.rounds.advance()
    assert run.work("a").lease == work.lease
    assert commit(run, work, delta(2, 0)) is False
    run.rounds.advance()
    assert [x.device_id for x in run.store.updates(1)] == ["a", "b"]


@pytest.mark.parametrize("jump_s", [-6 * 3600.0, 6 * 3600.0])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_clock_that_jumps_by_hours_loses_nothing_and_counts_nothing_twice(
    a_run: MakeRun, delta: Any, mode: str, jump_s: float
) -> None:
    run = a_run(2, 2, mode=mode, buffer=2, min_devices=2, total=2)
    digests = []
    for number in (1, 2):
        run.rounds.advance()
        for seed, name in enumerate("ab"):
            work = run.work(name)
            run.time.now += jump_s if number == 1 else 0
            run.rounds.advance()
            assert commit(run, work, delta(2, 10 * number + seed)) is False
        run.rounds.advance()
        assert [x.device_id for x in run.store.updates(number)] == ["a", "b"]
        digests.append(run.store.version(number).artifact.sha256)
    assert run.store.latest_version().number == 2
    assert len(set(digests)) == 2


def test_what_a_device_did_in_part_tells_how_long_all_of_it_would_take(
    a_run: MakeRun, delta: Any
) -> None:
    run = a_run(2, 2)
    run.rounds.advance()
    told = {
        "a": {"train_seconds": 10.0, "steps": 2, "steps_asked": 8},
        "b": {"train_seconds": 10.0, "steps": 8, "steps_asked": 8},
    }
    for name, metrics in told.items():
        work = run.work(name)
        data, _ = encode_update(delta(2, 0), "float32", {})
        run.updates.commit(name, work.lease, run.upload(work, data), 3, metrics)
    assert sorted(run.store.train_seconds(1).values()) == [10.0, 40.0]
