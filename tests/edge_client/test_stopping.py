"""Idle waits that a nudge ends, and waits that only a stop ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edge_client.stopping import StopFlag, Stopped

LONG_S = 3600.0
DEADLINE_S = 30.0


@pytest.fixture
def flag() -> Iterator[StopFlag]:
    made = StopFlag()
    yield made
    made.close()


def in_thread(act: object) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_a_nudge_ends_the_idle_under_way(flag: StopFlag) -> None:
    thread = in_thread(lambda: flag.idle(LONG_S))
    flag.nudge()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_nudges_of_before_end_the_next_idle_and_no_other(flag: StopFlag) -> None:
    for _ in range(100_000):  # more than a pipe holds
        flag.nudge()
    flag.idle(LONG_S)
    thread = in_thread(lambda: flag.idle(LONG_S))
    thread.join(0.2)
    assert thread.is_alive()
    flag.nudge()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_a_nudge_does_not_shorten_another_wait(flag: StopFlag) -> None:
    flag.nudge()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(Stopped):
            flag.wait(LONG_S)
        ended.set()

    thread = in_thread(wait)
    assert not ended.wait(0.2)
    flag.raise_flag()
    thread.join(DEADLINE_S)
    assert ended.is_set()


def test_a_stop_ends_an_idle_client(flag: StopFlag) -> None:
    flag.raise_flag()
    with pytest.raises(Stopped):
        flag.idle(LONG_S)
