"""The door between messages and dataclasses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from devices.conditions import Conditions
from devices.profile import DeviceProfile
from reefleet.errors import WireError
from reefleet.plan import SubmodelPlan
from reefleet.report import DeviceMetrics, EarlyExitReport
from reefleet.v1 import plan_pb2
from reefleet.wire import convert

PLAN = SubmodelPlan(3, 4, 16, 2, 1, "int8", ("depth 3 fits 512 MiB", "4 bits"))
PROFILE = DeviceProfile(
    board="rpi-4b",
    memory_available_mib=1800,
    cores=4,
    storage_free_bytes=1 << 40,
    runtimes={"onnxruntime": "1.31.1"},
    isa=("neon", "fp16"),
    train_samples=240,
)
METRICS = DeviceMetrics(0.5, (0.25, 0.75), (0.5,), 40, 1 << 33, 5, 6, 1.5, 7, 8)
EARLY_EXIT = EarlyExitReport(0.5, 0.75, 2.5, 1.25, 3.5, 9000, (0.9, 0.0), (0.25, 0.75))


def test_a_plan_survives_the_wire() -> None:
    assert convert.plan_from_pb(convert.plan_to_pb(PLAN)) == PLAN


def test_a_profile_survives_the_wire() -> None:
    assert convert.profile_from_pb(convert.profile_to_pb(PROFILE)) == PROFILE


def test_metrics_survive_the_wire() -> None:
    assert convert.metrics_from_pb(convert.metrics_to_pb(METRICS)) == METRICS


def test_conditions_survive_the_wire_and_unknown_ones_stay_unknown() -> None:
    known = Conditions("15W", 1500, -5, False, True, 0, False)
    for conditions in (known, Conditions()):
        assert convert.conditions_from_pb(convert.conditions_to_pb(conditions)) == conditions


def test_an_early_exit_report_survives_the_wire() -> None:
    assert convert.early_exit_from_pb(convert.early_exit_to_pb(EARLY_EXIT)) == EARLY_EXIT


@pytest.mark.parametrize(
    "field", ["memory_available_mib", "cores", "storage_free_bytes", "train_samples"]
)
def test_an_unknown_value_of_a_profile_stays_unknown(field: str) -> None:
    unknown: dict[str, Any] = {field: None}
    profile = replace(PROFILE, **unknown)
    message = convert.profile_to_pb(profile)
    assert not message.HasField(field)
    assert convert.profile_from_pb(message) == profile


def test_zero_is_not_an_unknown_value() -> None:
    profile = replace(PROFILE, memory_available_mib=0, train_samples=0)
    assert convert.profile_from_pb(convert.profile_to_pb(profile)) == profile


@pytest.mark.parametrize(
    ("field", "value"), [("exit_depth", 0), ("bits", 9), ("models", 3), ("codec", "gzip")]
)
def test_a_plan_that_no_device_can_obey_is_refused(field: str, value: object) -> None:
    message = convert.plan_to_pb(PLAN)
    setattr(message, field, value)
    with pytest.raises(WireError, match=f"plan value {field}"):
        convert.plan_from_pb(message)


def test_a_profile_that_no_board_can_have_is_refused() -> None:
    with pytest.raises(WireError, match="cores"):
        convert.profile_from_pb(plan_pb2.DeviceProfile(board="rpi-5", cores=0))


def test_a_value_too_large_for_the_wire_is_refused() -> None:
    with pytest.raises(WireError, match="device profile"):
        convert.profile_to_pb(replace(PROFILE, memory_available_mib=1 << 32))
    with pytest.raises(WireError, match="device metrics"):
        convert.metrics_to_pb(replace(METRICS, bytes_up=-1))
    with pytest.raises(WireError, match="early-exit report"):
        convert.early_exit_to_pb(replace(EARLY_EXIT, packed_bytes=1 << 64))


def test_a_loss_that_is_not_a_number_reaches_the_coordinator() -> None:
    sent = convert.metrics_to_pb(replace(METRICS, loss=math.nan))
    assert math.isnan(convert.metrics_from_pb(sent).loss)
