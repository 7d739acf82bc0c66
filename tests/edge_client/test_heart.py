from __future__ import annotations

import pytest

from edge_client import heart
from edge_client.heart import Heart
from edge_client.stopping import StopFlag


def test_it_beats_three_times_in_the_watchdogs_span(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setenv("WATCHDOG_USEC", "90000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(heart.notify, "tell", said.append)
    now = [0.0]
    one = Heart(lambda: now[0])
    for _ in range(90):
        now[0] += 1.0
        one.beat()
        one.beat()
    assert said == ["WATCHDOG=1"] * 3


def test_it_is_silent_where_nobody_wants_to_hear_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.setattr(heart.notify, "tell", said.append)
    Heart(lambda: 1e9).beat()
    assert said == []


def test_a_long_wait_is_broken_by_beats_and_lasts_as_long() -> None:
    beats: list[int] = []
    flag = StopFlag(lambda: beats.append(1), longest_s=0.01)
    flag.wait(0.05)
    flag.close()
    assert len(beats) >= 4
