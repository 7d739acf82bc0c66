"""Last calls cost no write each, and a large idle fleet calls less often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.presence import JITTER, WRITE_EVERY_S, Presence
from reefleet.errors import StoreError

MakeRun = Callable[..., Any]
POLL_MS = 1000


def of(run: Any, calls_per_s: float = 5.0) -> Presence:
    return Presence(run.store, run.time.clock(), run.policy.presence_s, calls_per_s)


def test_calls_are_written_together_and_a_restart_knows_them(a_run: MakeRun) -> None:
    run = a_run(2, 2)
    presence = of(run)
    begun = run.time.now
    for name in "ab":
        presence.note(name)
    assert run.store.device("a").last_seen_at is None
    presence.write_if_due()
    run.time.pass_s(5.0)
    presence.note("a")
    presence.write_if_due()
    assert [run.store.device(name).last_seen_at for name in "ab"] == [begun, begun]
    run.time.pass_s(WRITE_EVERY_S)
    presence.write_if_due()
    assert run.store.device("a").last_seen_at == begun + 5.0
    assert all(of(run).is_present(name) for name in "ab")


def test_what_could_not_be_written_is_written_later(a_run: MakeRun) -> None:
    run = a_run(2)
    presence = of(run)
    presence.note("a")
    run.store.close()
    run.store._engine.dispose()
    good = run.store.set_seen

    def fail(_seen: Any) -> None:
        message = "no room"
        raise StoreError(message)

    run.store.set_seen = fail
    with pytest.raises(StoreError):
        presence.write()
    assert presence.is_present("a")
    run.store.set_seen = good
    presence.write()
    assert run.store.device("a").last_seen_at == run.time.now


def test_a_device_that_was_silent_for_long_has_been_away(a_run: MakeRun) -> None:
    run = a_run(2)
    presence = of(run)
    assert presence.note("a") is True
    assert presence.note("a") is False
    run.time.pass_s(run.policy.presence_s + 1)
    assert presence.note("a") is True


def test_one_idle_device_asks_as_often_as_the_settings_say(a_run: MakeRun) -> None:
    run = a_run(2)
    presence = of(run)
    presence.note("a")
    for _ in range(5):
        assert presence.wait_ms("a", POLL_MS) == POLL_MS
        run.time.pass_s(60.0)
        presence.note("a")


def test_a_large_fleet_that_stays_idle_asks_less_and_less(a_run: MakeRun) -> None:
    run = a_run(2)
    presence = of(run)
    for number in range(500):
        presence.note(f"d{number}")
    waits = []
    for _ in range(20):
        waits.append(presence.wait_ms("d0", POLL_MS))
        run.time.pass_s(waits[-1] / 1000)
    assert waits[0] == POLL_MS
    steady = waits[-5:]
    assert all(1 - JITTER <= wait / 100_000 <= 1 + JITTER for wait in steady)
    assert len(set(steady)) > 1  # a fleet must not come in one wave
    presence.working("d0")
    assert presence.wait_ms("d0", POLL_MS) == POLL_MS


def test_an_idle_device_calls_often_enough_to_stay_present(a_run: MakeRun) -> None:
    run = a_run(2)
    presence = of(run, calls_per_s=0.01)
    for number in range(100):
        presence.note(f"d{number}")
    presence.wait_ms("d0", POLL_MS)
    run.time.pass_s(1e6)
    assert presence.wait_ms("d0", POLL_MS) < 1000 * run.policy.presence_s / 2


def test_a_device_that_comes_is_written_down_at_once(a_run: MakeRun) -> None:
    run = a_run(2)
    run.presence.write()
    run.add_device("late")
    run.presence.write_if_due()
    assert run.store.device("late").last_seen_at == run.time.now
