from __future__ import annotations

import threading

import pytest

from coordinator.transfers import Transfers
from reefleet.errors import CoordinatorUnavailable

LONG_S = 20.0


def nothing() -> None:
    """How a transfer ends that nobody ends."""


def test_one_transfer_too_many_is_told_to_come_back() -> None:
    transfers = Transfers(most=2, places=2)
    first, second = transfers.turn("a", nothing), transfers.turn("b", nothing)
    first.__enter__()
    second.__enter__()
    with pytest.raises(CoordinatorUnavailable, match="2 transfers"), transfers.turn("c", nothing):
        pass
    first.__exit__(None, None, None)
    with transfers.turn("c", nothing):
        pass


def test_a_device_has_one_transfer_and_the_next_ends_it() -> None:
    transfers, ended = Transfers(), []
    first = transfers.turn("a", lambda: ended.append("first"))
    first.__enter__()
    with transfers.turn("b", nothing):
        assert ended == []
    with transfers.turn("a", lambda: ended.append("second")):
        assert ended == ["first"]
        first.__exit__(None, None, None)  # late, and not the newest any more
        with transfers.turn("a", nothing):
            assert ended == ["first", "second"]


def test_a_transfer_waits_for_a_place() -> None:
    transfers, begun, order = Transfers(most=3, places=1, patience_s=LONG_S), threading.Event(), []

    def second() -> None:
        begun.set()
        with transfers.turn("b", nothing):
            order.append("second")

    with transfers.turn("a", nothing):
        other = threading.Thread(target=second)
        other.start()
        assert begun.wait(LONG_S)
        order.append("first")
    other.join(LONG_S)
    assert order == ["first", "second"]


def test_a_transfer_goes_on_beside_slow_ones() -> None:
    transfers = Transfers(most=3, places=1, patience_s=0.0)
    with transfers.turn("a", nothing), transfers.turn("b", nothing):
        pass
    with transfers.turn("c", nothing):  # each gave back what it had
        pass
