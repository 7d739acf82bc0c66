from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.planner import Budget, decide, default_table
from coordinator.planner.frontier import AXES, Point, marked, points
from coordinator.planner.options import options_of
from devices import catalog
from devices.capability import capability_of
from reefleet.model import ModelSpec

SPEC = ModelSpec(8, 2, 1, 64, 4, 6, 10, (2, 4, 6))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 9)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats_in_both(pairs: list[tuple[float, float]]) -> None:
    found = marked([Point(1, 8, accuracy, cost, fits=True) for accuracy, cost in pairs])
    assert any(point.best for point in found)
    for point in found:
        beaten = [
            other
            for other in found
            if other.accuracy >= point.accuracy
            and other.cost <= point.cost
            and (other.accuracy, other.cost) != (point.accuracy, point.cost)
        ]
        assert point.best == (not beaten)


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_every_depth_and_bit_width_has_a_point_and_one_is_chosen(axis: object) -> None:
    device = capability_of(catalog.reference_profile("rpi-3b-plus", train_samples=250))
    options = options_of(SPEC, Budget(latency_ms=4.2), default_table(SPEC))
    decision = decide(device, options)
    found = points(decision, axis)  # type: ignore[arg-type]  # an Axis by its name
    assert len(found) == 3 * 7
    assert [p.exit_depth for p in found if p.chosen] == [decision.candidate.exit_depth]
    assert all(point.fits for point in found if point.chosen)
    assert not any(point.fits for point in found if point.exit_depth == 6)
