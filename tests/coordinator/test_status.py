"""What people see of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from coordinator import status
from coordinator.config import CoordinatorConfig

MakeRun = Callable[..., Any]


def look(run: Any) -> Any:
    config = CoordinatorConfig(fleet="barn", rounds=run.policy)
    found = status.snapshot(run.store, config, run.time.now)
    json.dumps(found.to_json(), allow_nan=False)
    return found


def test_the_phases_of_a_run_follow_each_other(a_run: MakeRun) -> None:
    run = a_run(2, 1, total=1)
    assert look(run).phase == status.WAITING
    run.rounds.advance()
    assert look(run).phase == status.ROUNDS
    run.push("a")
    run.push("b")
    run.rounds.advance()
    assert look(run).phase == status.PERSONALIZING
    for name in "ab":
        lease = run.work(name).lease
        run.store.add_report(lease, status.r.PersonalReport(2, name, {}, {}, run.time.now))
    assert look(run).phase == status.FINISHED
    assert {device.doing for device in look(run).devices} == {"done"}


def test_a_round_shows_its_updates_and_weighted_loss(a_run: MakeRun) -> None:
    run = a_run(2, 1)
    run.rounds.advance()
    run.time.pass_s(10)
    run.push("a", samples=30)
    found = look(run)
    (shown,) = found.rounds
    assert (shown.cohort, shown.updates, shown.needed, shown.loss) == (2, 1, 2, 1.0)
    assert shown.update_bytes == found.devices[0].work[0].update_bytes > 0
    assert [device.doing for device in found.devices] == ["idle", "federate"]


def test_the_time_left_is_guessed_from_the_rounds_so_far(a_run: MakeRun) -> None:
    run = a_run(2, total=5)
    run.rounds.advance()
    assert look(run).time_left_s is None
    run.time.pass_s(10)
    run.push("a")
    run.rounds.advance()
    run.time.pass_s(4)
    assert look(run).time_left_s == 4 * 10 - 4


def test_a_device_without_a_bundle_shows_why(a_run: MakeRun) -> None:
    run = a_run(2)
    run.store.fail_bundle(run.store.device("a").bundle_key, "no such operator")
    (device,) = look(run).devices
    assert (device.doing, device.failure) == ("failed", "no such operator")
