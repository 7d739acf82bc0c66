"""Asynchronous rounds: work for whoever asks, a version for each full buffer, staleness counted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from coordinator import records as r
from coordinator.rounds import Finished, Wait
from reefleet.errors import Rejected
from reefleet.wire.codecs import encode_update

MakeRun = Callable[..., Any]


@pytest.fixture
def run(a_run: MakeRun) -> Any:
    run = a_run(2, 2, 2, mode="async", buffer=2, min_devices=1, total=4, max_staleness=2)
    run.rounds.advance()
    return run


def push(run: Any, work: r.Assignment, delta: Any, samples: int = 10) -> bool:
    data, _ = encode_update(delta, work.plan.codec, {})
    announced = run.upload(work, data)
    return bool(run.updates.commit(work.device_id, work.lease, announced, samples, {"loss": 1.0}))


def test_whoever_asks_gets_work_and_the_same_until_it_is_done(run: Any, delta: Any) -> None:
    work = run.work("a")
    assert run.work("a") == work
    push(run, work, delta(2, 0))
    again = run.work("a")
    assert again.lease != work.lease
    assert (again.round, again.base_version) == (1, 0)


def test_two_questions_at_once_get_one_piece_of_work(run: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run.rounds.next_task, ["a"] * 12))
    assert {work.lease for work in found} == {run.work("a").lease}
    assert len(run.store.assignments(r.FEDERATE, 1)) == 1


def test_each_full_buffer_makes_a_version(run: Any, delta: Any) -> None:
    for seed, name in enumerate("abc"):
        push(run, run.work(name), delta(2, seed))
        run.rounds.advance()
    assert run.store.latest_version().number == 1
    assert [x.device_id for x in run.store.updates(1)] == ["a", "b"]
    assert run.store.waiting_updates() == 1
    assert run.work("a").base_version == 1


def test_one_device_alone_can_fill_the_buffer(run: Any, delta: Any) -> None:
    first = run.work("a")
    push(run, first, delta(2, 0))
    run.time.pass_s(1)
    second = run.work("a")
    assert [run.rounds.turn(first), run.rounds.turn(second)] == [0, 1]
    push(run, second, delta(2, 1))
    run.rounds.advance()
    assert run.store.latest_version().number == 1


def test_an_update_behind_counts_for_less_by_the_power_of_its_staleness(
    run: Any, delta: Any
) -> None:
    slow = run.work("c")
    for seed, name in enumerate("ab"):
        push(run, run.work(name), delta(2, seed))
    run.rounds.advance()
    fresh = run.work("a")
    assert (slow.base_version, fresh.base_version) == (0, 1)
    before = run.versions.load(1)
    push(run, slow, delta(2, 7), samples=30)
    push(run, fresh, delta(2, 8), samples=10)
    run.rounds.advance()
    after = run.versions.load(2)
    shrink = np.float32(2**-0.5)
    for name, value in before.items():
        old, new = delta(2, 7)[name] * shrink, delta(2, 8)[name]
        expected = value + (30 * old + 10 * new) / 40
        assert after[name] == pytest.approx(expected, abs=1e-6), name


def test_work_too_far_behind_is_ended_with_the_reason(run: Any, delta: Any) -> None:
    slow = run.work("c")
    for seed in range(3):
        for name in "ab":
            push(run, run.work(name), delta(2, seed))
        run.rounds.advance()
    assert run.store.latest_version().number == 3
    ended = run.store.assignment(slow.lease)
    assert (ended.state, ended.reason) == (r.EXPIRED, "it started more than 2 versions ago")
    with pytest.raises(Rejected, match="started 3 versions ago; an update counts up to 2"):
        push(run, slow, delta(2, 9))
    assert run.work("c").base_version == 3


def test_a_restart_keeps_what_waits_and_what_is_being_worked_on(run: Any, delta: Any) -> None:
    push(run, run.work("a"), delta(2, 0))
    lease = run.work("b").lease
    run.restart()
    run.rounds.advance()
    assert run.store.waiting_updates() == 1
    assert run.work("b").lease == lease
    push(run, run.work("b"), delta(2, 1))
    run.rounds.advance()
    assert len(run.store.updates(1)) == 2


def test_an_update_accepted_while_a_version_is_made_waits_for_the_next(
    run: Any, delta: Any
) -> None:
    late = run.work("c")
    for seed, name in enumerate("ab"):
        push(run, run.work(name), delta(2, seed))
    run.store.stop_round(1, "buffer", most=2, ends_work=False)
    push(run, late, delta(2, 5))
    run.rounds.advance()
    assert [x.device_id for x in run.store.updates(1)] == ["a", "b"]
    assert run.store.waiting_updates() == 1


def test_after_the_last_version_each_device_gets_its_personal_work(run: Any, delta: Any) -> None:
    for seed in range(4):
        for name in "ab":
            push(run, run.work(name), delta(2, seed))
        run.rounds.advance()
    work = run.work("c")
    assert (work.kind, work.round, work.base_version) == (r.PERSONALIZE, 5, 4)
    run.store.add_report(work.lease, r.PersonalReport(5, "c", {}, {}, run.time.now))
    assert run.rounds.next_task("c") == Finished()


def test_open_work_ends_with_the_run(run: Any, delta: Any) -> None:
    slow = run.work("c")
    run.policy = type(run.policy)(total=1, mode="async", buffer=2, min_devices=1)
    run.restart()
    for name in "ab":
        push(run, run.work(name), delta(2, 1))
    run.rounds.advance()
    with pytest.raises(Rejected, match="the run is over"):
        push(run, slow, delta(2, 2))
    assert run.work("c").kind == r.PERSONALIZE


def test_nobody_gets_work_while_the_run_is_paused(run: Any) -> None:
    run.store.set_fact(r.PAUSED, "since then")
    assert isinstance(run.rounds.next_task("a"), Wait)


def test_a_run_may_go_on_in_rounds_with_what_waits(run: Any, delta: Any) -> None:
    push(run, run.work("a"), delta(2, 0))
    run.policy = type(run.policy)(total=4, min_devices=3, quorum=1.0)
    run.restart()
    run.rounds.advance()
    assert run.store.rounds()[0].reason == "complete"
    assert [x.device_id for x in run.store.updates(1)] == ["a"]
    assert {run.work(name).round for name in "abc"} == {2}
