"""The thread that advances the rounds outlives what fails, says so once, and goes on."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from coordinator import scheduler
from coordinator.scheduler import Scheduler
from reefleet.errors import StoreFull
from tests.integration.running import until


class Rounds:
    """Rounds whose `advance` fails while `full` is set."""

    def __init__(self) -> None:
        self.full = threading.Event()
        self.advanced = 0

    def advance(self) -> None:
        self.advanced += 1
        if self.full.is_set():
            message = "no room on disk"
            raise StoreFull(message)

    def seconds_left(self) -> float:
        return 0.001


def test_a_full_disk_is_trouble_until_there_is_room_and_keeps_nobody_from_making_it(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(scheduler, "BACK_OFF_S", 0.001)
    caplog.set_level(logging.INFO, "coordinator.scheduler")
    rounds, reviewed = Rounds(), []
    rounds.full.set()
    running = Scheduler(rounds)  # type: ignore[arg-type]  # a stand-in
    running.start(lambda: reviewed.append(rounds.advanced))
    try:
        until(lambda: len(reviewed) > 3, "some reviews")
        assert running.trouble() == "no room on disk"
        rounds.full.clear()
        until(lambda: not running.trouble(), "the end of the trouble")
        assert running.is_running()
    finally:
        running.stop()
    said = [record.message for record in caplog.records]
    assert said == ["The run stands still", "The run goes on"]


def test_a_step_that_takes_very_long_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "LONG_S", 0.0)
    release, entered = threading.Event(), threading.Event()
    rounds = Rounds()

    def hang() -> None:
        entered.set()
        release.wait()

    running = Scheduler(rounds)  # type: ignore[arg-type]  # a stand-in
    running.start(hang)
    entered.wait()
    assert "is the disk or the database slow?" in running.trouble()
    release.set()
    running.stop()
