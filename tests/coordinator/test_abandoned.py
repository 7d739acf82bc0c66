"""Work that a device cannot do ends at once, and its plan is lowered before the next round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator import records as r
from coordinator.abandoned import OUT_OF_MEMORY, give_up
from coordinator.rounds import Finished
from reefleet.errors import Rejected


def test_work_given_up_ends_the_round_for_that_device(a_run: Callable[..., Any]) -> None:
    run = a_run(min_devices=1, total=2)
    run.add_device("a")
    run.rounds.advance()
    work = run.rounds.next_task("a")
    clock = run.time.clock()
    give_up(run.store, "a", work.lease, OUT_OF_MEMORY, clock)
    give_up(run.store, "a", work.lease, OUT_OF_MEMORY, clock)
    ended = run.store.assignment(work.lease)
    assert (ended.state, ended.reason) == (r.REFUSED, OUT_OF_MEMORY)
    assert [each.reason for each in run.store.refusals()] == [OUT_OF_MEMORY]
    run.rounds.advance()
    assert run.store.rounds_closed() >= 1


def test_what_is_no_work_of_the_device_is_not_given_up(a_run: Callable[..., Any]) -> None:
    run = a_run(min_devices=2)
    run.add_device("a")
    run.add_device("b")
    run.rounds.advance()
    work = run.rounds.next_task("a")
    for device, lease in (("b", work.lease), ("a", "nothing")):
        with pytest.raises(Rejected, match="no work of this device"):
            give_up(run.store, device, lease, OUT_OF_MEMORY, run.time.clock())


def test_plans_are_reviewed_between_two_rounds(a_run: Callable[..., Any]) -> None:
    run = a_run(min_devices=1, total=2)
    run.add_device("a")
    seen = []
    run.rounds.before_opening = lambda: seen.append(run.store.rounds_closed())
    run.rounds.advance()
    give_up(run.store, "a", run.rounds.next_task("a").lease, OUT_OF_MEMORY, run.time.clock())
    run.rounds.advance()
    assert seen == [0, 1]


def test_a_device_that_gives_up_its_personal_work_is_finished(a_run: Callable[..., Any]) -> None:
    run = a_run(min_devices=1, total=1)
    run.add_device("a")
    run.rounds.advance()
    for _ in range(2):
        work = run.rounds.next_task("a")
        give_up(run.store, "a", work.lease, OUT_OF_MEMORY, run.time.clock())
        run.rounds.advance()
    assert work.kind == r.PERSONALIZE
    assert isinstance(run.rounds.next_task("a"), Finished)
