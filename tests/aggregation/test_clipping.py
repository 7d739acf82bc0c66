"""Norm clipping: never longer than the bound, never turned, never stretched."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reefleet.aggregation.clipping import Clipping
from reefleet.errors import AggregationError

RMS = st.floats(0, 1e6)


@given(RMS, st.integers(1, 10_000), st.floats(1e-6, 1e3))
def test_no_update_is_longer_than_the_bound(rms: float, values: int, bound: float) -> None:
    scale = Clipping(norm=bound).scale(rms, values, [])
    assert 0 <= scale <= 1
    assert scale * rms * math.sqrt(values) <= bound * (1 + 1e-9)


@given(RMS, st.lists(RMS, min_size=1, max_size=9))
def test_the_median_of_recent_updates_bounds_each(rms: float, recent: list[float]) -> None:
    scale = Clipping(median_of=100).scale(rms, 50, recent)
    assert scale * rms == pytest.approx(min(rms, statistics.median(recent)))


def test_one_long_update_among_many_is_shortened_to_the_median() -> None:
    assert Clipping(median_of=5).scale(100.0, 7, [9e9, 1.0, 2.0, 3.0, 4.0, 100.0]) == 0.03


def test_size_does_not_count_for_the_median() -> None:
    clipping = Clipping(median_of=3)
    assert clipping.scale(2.0, 10, [1, 1, 2]) == clipping.scale(2.0, 10_000, [1, 1, 2]) == 0.5


def test_without_bounds_nothing_is_clipped() -> None:
    assert Clipping().scale(1e30, 10, [1.0]) == 1.0


@pytest.mark.parametrize("rms", [-1.0, math.nan, math.inf])
def test_a_length_that_is_none_is_refused(rms: float) -> None:
    with pytest.raises(AggregationError, match="root mean square"):
        Clipping(norm=1.0).scale(rms, 1, [])
