"""Device reports as stored values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from reefleet.errors import WireError
from reefleet.report import DeviceMetrics, EarlyExitReport

METRICS = DeviceMetrics(0.5, (0.25, 0.75), (0.5,), 40, 1 << 33, 5, 6, 1.5)
EARLY_EXIT = EarlyExitReport(0.5, 0.75, 2.5, 1.25, 3.5, 9000, (0.9, 0.0), (0.25, 0.75))


@pytest.mark.parametrize("report", [METRICS, EARLY_EXIT, DeviceMetrics(), EarlyExitReport()])
def test_a_report_survives_json(report: DeviceMetrics | EarlyExitReport) -> None:
    text = json.dumps(report.to_json(), allow_nan=False)
    assert type(report).from_json(json.loads(text)) == report


def test_a_figure_that_is_not_finite_is_stored_as_null() -> None:
    diverged = replace(METRICS, loss=math.inf, shared_accuracy=(math.nan, 0.5))
    text = json.dumps(diverged.to_json(), allow_nan=False)
    found = DeviceMetrics.from_json(json.loads(text))
    assert math.isnan(found.loss)
    assert math.isnan(found.shared_accuracy[0])
    assert found.shared_accuracy[1] == 0.5


def test_missing_figures_take_their_defaults() -> None:
    assert DeviceMetrics.from_json({"loss": 1}) == DeviceMetrics(loss=1.0)


def test_whole_numbers_read_as_their_field_says() -> None:
    found = DeviceMetrics.from_json({"loss": 2, "bytes_up": 3.0})
    assert (type(found.loss), type(found.bytes_up)) == (float, int)


@pytest.mark.parametrize(
    "values",
    [
        {"bytes_up": "5"},
        {"bytes_up": 1.5},
        {"bytes_up": None},
        {"bytes_up": True},
        {"bytes_up": math.nan},
        {"bytes_up": math.inf},
        {"loss": "low"},
        {"shared_accuracy": 0.5},
        {"shared_accuracy": ["a"]},
        {"speed": 1},
    ],
)
def test_a_value_that_is_no_figure_is_refused_by_name(values: Mapping[str, object]) -> None:
    with pytest.raises(WireError, match=next(iter(values))):
        DeviceMetrics.from_json(values)
