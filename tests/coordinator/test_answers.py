"""What operators get of a device's figures."""

from __future__ import annotations

import math

import pytest

from coordinator.answers import metrics_message
from reefleet.errors import WireError
from reefleet.report import DeviceMetrics


def test_figures_arrive_as_they_were_stored() -> None:
    told = DeviceMetrics(0.5, (0.25, 0.75), (), 12, 5, 6, 7, 1.5, 3, 4)
    message = metrics_message(told.to_json())
    assert (message.loss, list(message.shared_accuracy)) == (0.5, [0.25, 0.75])
    assert (message.steps, message.steps_asked, message.bytes_up) == (3, 4, 6)


def test_a_figure_that_was_not_finite_does_not_become_a_zero() -> None:
    told = DeviceMetrics(math.nan, shared_accuracy=(math.nan, 0.5))
    message = metrics_message(told.to_json())
    assert math.isnan(message.loss)
    assert math.isnan(message.shared_accuracy[0])
    assert message.shared_accuracy[1] == 0.5


def test_figures_of_a_newer_program_are_refused_by_name() -> None:
    with pytest.raises(WireError, match="'smell'"):
        metrics_message({"smell": 1.0})
