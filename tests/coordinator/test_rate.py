"""Failures of one address are bounded, and forgotten steadily."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import rate
from coordinator.rate import FailureLimit
from reefleet.errors import Rejected


def test_an_address_gets_its_failures_back_with_time(turned_clock: Any) -> None:
    limit = FailureLimit(6, turned_clock.clock())
    for _ in range(6):
        limit.check("x")
        limit.failed("x")
    with pytest.raises(Rejected, match="10 s"):
        limit.check("x")
    limit.check("y")
    turned_clock.pass_s(10)
    limit.check("x")
    limit.failed("x")
    with pytest.raises(Rejected):
        limit.check("x")


def test_memory_is_bounded(turned_clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_ADDRESSES", 2)
    limit = FailureLimit(1, turned_clock.clock())
    for address in "abc":
        limit.failed(address)
    limit.check("a")
    with pytest.raises(Rejected):
        limit.check("c")
