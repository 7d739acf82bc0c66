"""Who may have work now: unknown values keep nobody out, known ones do what the settings say."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator import records as r
from coordinator.config import Eligibility
from coordinator.gate import Gate, Told, is_within, obstacle
from coordinator.rounds import Wait
from devices.conditions import Conditions
from reefleet.errors import ConfigError

STRICT = Eligibility(
    mains_only=True, min_battery_percent=50, max_temperature_c=60, unmetered=True, idle=True
)


def test_a_device_that_tells_nothing_is_let_in() -> None:
    assert obstacle(STRICT, Told(Conditions())) == ""


@pytest.mark.parametrize(
    ("rules", "told", "words"),
    [
        (STRICT, Told(Conditions(on_mains=False)), "not on mains"),
        (
            Eligibility(min_battery_percent=50),
            Told(Conditions(on_mains=False, battery_percent=40)),
            "battery at 40 %, below 50 %",
        ),
        (STRICT, Told(Conditions(temperature_c=65)), "at 65 C, above 60 C"),
        (STRICT, Told(Conditions(metered=True)), "on a metered link"),
        (STRICT, Told(Conditions(), idle=False), "busy"),
    ],
)
def test_each_rule_says_what_it_minds(rules: Eligibility, told: Told, words: str) -> None:
    assert obstacle(rules, told) == words
    assert obstacle(Eligibility(), told) == ""


def test_a_low_battery_is_no_matter_on_mains() -> None:
    rules = Eligibility(min_battery_percent=50)
    assert obstacle(rules, Told(Conditions(on_mains=True, battery_percent=10))) == ""


def at(hour: int, minute: int = 0) -> float:
    """Wall time of a local time of day."""
    return time.mktime((2026, 6, 1, hour, minute, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("09:00-17:30", [(9, 0), (17, 29)], [(8, 59), (17, 30)]),
        ("22:00-06:00", [(22, 0), (0, 0), (5, 59)], [(21, 59), (6, 0)]),
        ("07:00-07:00", [(7, 0), (6, 59)], []),
        ("", [(0, 0), (12, 0)], []),
    ],
)
def test_hours_are_a_daily_window_that_may_span_midnight(
    hours: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]
) -> None:
    window = Eligibility(hours=hours).window
    assert all(is_within(window, at(*moment)) for moment in inside)
    assert not any(is_within(window, at(*moment)) for moment in outside)


@pytest.mark.parametrize("hours", ["9-17", "24:00-06:00", "09:00", "09:60-10:00", "always"])
def test_hours_that_no_clock_shows_are_refused(hours: str) -> None:
    with pytest.raises(ConfigError, match=r'eligibility.hours is .*"22:00-06:00"'):
        Eligibility(hours=hours)


def test_a_round_waits_for_devices_that_may_work(a_run: Callable[..., Any]) -> None:
    run = a_run(2, 2, min_devices=2)
    run.eligibility = Eligibility(max_temperature_c=60)
    run.restart()
    hot, cool = Told(Conditions(temperature_c=75)), Told(Conditions(temperature_c=40))
    run.gate.tell("a", hot)
    run.rounds.advance()
    assert run.store.current_round() is None
    run.gate.tell("a", cool)
    run.rounds.advance()
    assert run.work("a").round == 1


def test_work_that_was_handed_out_is_not_taken_back(a_run: Callable[..., Any]) -> None:
    run = a_run(2, min_devices=1)
    run.eligibility = Eligibility(idle=True)
    run.restart()
    run.rounds.advance()
    run.gate.tell("a", Told(Conditions(), idle=False))
    assert run.work("a").state == r.OPEN
    assert run.push("a") is False


def test_in_asynchronous_mode_a_device_waits_for_its_hours(a_run: Callable[..., Any]) -> None:
    run = a_run(2, min_devices=1, mode="async", buffer=1)
    run.rounds.advance()
    run.eligibility = Eligibility(hours="09:00-10:00")
    run.restart()
    run.time.now = at(8)
    assert isinstance(run.rounds.next_task("a"), Wait)
    run.time.now = at(9, 30)
    assert run.work("a").round == 1


def test_conditions_of_the_profile_count_until_the_device_asks(a_run: Callable[..., Any]) -> None:
    run = a_run(2, min_devices=1)
    run.eligibility = Eligibility(unmetered=True)
    run.restart()
    device = run.store.device("a")
    metered = replace(device, profile={"conditions": {"metered": True}})
    assert run.gate.barrier(metered) == "on a metered link"
    run.gate.tell("a", Told(Conditions(metered=False)))
    assert run.gate.barrier(metered) == ""
    strange = replace(device, profile={"conditions": {"mood": "good"}})
    run.gate.tell("b", Told(Conditions()))
    assert run.gate.barrier(replace(strange, device_id="x")) == ""


def test_a_fleet_outside_its_hours_is_not_read(a_run: Callable[..., Any]) -> None:
    run = a_run(2, 2)
    now = time.localtime(run.time.now)
    begin, end = (now.tm_hour + 2) % 24, (now.tm_hour + 3) % 24
    closed = Eligibility(hours=f"{begin:02d}:00-{end:02d}:00")
    assert not Gate(run.presence, run.time.clock(), closed).may_hold(2)
    always = Gate(run.presence, run.time.clock())
    assert always.may_hold(2)
    assert not always.may_hold(3)
