from __future__ import annotations

import threading

import pytest

from coordinator.transfers import Transfers
from reefleet.errors import CoordinatorUnavailable

LONG_S = 20.0


def test_one_transfer_too_many_is_told_to_come_back() -> None:
    transfers = Transfers(most=2, places=2)
    first, second = transfers.turn(), transfers.turn()
    first.__enter__()
    second.__enter__()
    with pytest.raises(CoordinatorUnavailable, match="2 transfers"), transfers.turn():
        pass
    first.__exit__(None, None, None)
    with transfers.turn():
        pass


def test_a_transfer_waits_for_a_place() -> None:
    transfers, begun, order = Transfers(most=3, places=1, patience_s=LONG_S), threading.Event(), []

    def second() -> None:
        begun.set()
        with transfers.turn():
            order.append("second")

    with transfers.turn():
        other = threading.Thread(target=second)
        other.start()
        assert begun.wait(LONG_S)
        order.append("first")
    other.join(LONG_S)
    assert order == ["first", "second"]


def test_a_transfer_goes_on_beside_slow_ones() -> None:
    transfers = Transfers(most=3, places=1, patience_s=0.0)
    with transfers.turn(), transfers.turn():
        pass
    with transfers.turn():  # each gave back what it had
        pass
