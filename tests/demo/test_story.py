from dataclasses import replace

import pytest

from coordinator.status import DeviceStatus, FleetStatus, RoundStatus, WorkStatus
from reefleet.demo import story
from reefleet.demo.processes import ChildFailed
from reefleet.demo.scenario import CONTRACT

PLAN = {"exit_depth": 4, "bits": 8}
PERSONAL = {
    "metrics": {
        "shared_accuracy": [0.8, 0.95],
        "personal_accuracy": [0.85, 0.97],
        "bytes_down": 30,
        "peak_resident_bytes": 120,
    },
    "early_exit": {
        "accuracy": 0.96,
        "full_depth_accuracy": 0.97,
        "mean_exit_depth": 1.5,
        "p50_ms": 0.2,
        "full_depth_p50_ms": 0.4,
        "packed_bytes": 1000,
    },
}


def a_work(number: int, accuracy: float) -> WorkStatus:
    metrics = {
        "loss": 0.5,
        "shared_accuracy": [0.1, accuracy],
        "bytes_down": 10,
        "bytes_up": 5,
        "peak_resident_bytes": 100 + number,
    }
    return WorkStatus(number, samples=50, update_bytes=5, accepted_at=0.0, metrics=metrics)


def a_device(name: str = "rpi-4b", *, done: bool = False) -> DeviceStatus:
    return DeviceStatus(
        device_id=name,
        doing="done" if done else "federate",
        failure="",
        profile=None,
        plan=PLAN,
        last_seen_at=None,
        refused=0,
        work=(a_work(1, 0.5), a_work(2, 0.9)),
        personal=PERSONAL if done else None,
    )


def a_round(number: int, seconds: float | None) -> RoundStatus:
    return RoundStatus(
        number=number,
        state="open" if seconds is None else "closed",
        reason="",
        base_version=number - 1,
        result_version=None,
        opened_at=100.0,
        closed_at=None if seconds is None else 100.0 + seconds,
        seconds_left=None,
        cohort=1,
        needed=1,
        updates=0,
        refused=0,
        update_bytes=0,
        loss=None,
        shared_accuracy=None,
    )


def a_status(phase: str, **changes: object) -> FleetStatus:
    status = FleetStatus(
        fleet="demo",
        phase=phase,
        version=0,
        rounds_total=4,
        rounds_closed=0,
        min_devices=1,
        ready_devices=1,
        time_left_s=None,
        rounds=(),
        devices=(a_device(),),
        refusals=(),
    )
    return replace(status, **changes)  # type: ignore[arg-type]  # a test names real fields


def test_each_phase_is_told_and_the_bar_only_moves_forward() -> None:
    rounds = (a_round(1, 5.0), a_round(2, None))
    moments = [
        story.moment(a_status("pretraining", ready_devices=0)),
        story.moment(a_status("waiting for devices")),
        story.moment(a_status("rounds", rounds=rounds, rounds_closed=1)),
        story.moment(a_status("personalizing", rounds=rounds, rounds_closed=4)),
        story.moment(a_status("finished", rounds=rounds, devices=(a_device(done=True),))),
    ]
    assert [m.phase for m in moments] == [
        "pretraining on the public part",
        "planning and compiling, 1/1 boards ready",
        "round 2/4",
        "personalizing, 0/1 boards done",
        "personalizing, 1/1 boards done",
    ]
    shares = [m.done for m in moments]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_between_two_rounds_the_next_one_is_told() -> None:
    status = a_status("waiting for devices", rounds=(a_round(1, 5.0),), rounds_closed=1)
    assert story.moment(status).phase == "round 2/4"


def test_time_left_comes_from_the_closed_rounds() -> None:
    status = a_status("rounds", rounds=(a_round(1, 5.0), a_round(2, None)), rounds_closed=1)
    assert story.moment(status).left_s == 5.0 * 4


def test_a_device_line_shows_its_plan_and_latest_figures() -> None:
    (line,) = story.moment(a_status("rounds", rounds=(a_round(1, None),))).devices
    assert (line.device, line.activity, line.exit_depth, line.bits) == ("rpi-4b", "training", 4, 8)
    assert (line.loss, line.accuracy) == (0.5, 0.9)


def test_curves_hold_the_deepest_exit_of_each_round_and_no_figure_of_other_images() -> None:
    status = a_status("finished", devices=(a_device(done=True),), rounds_closed=2)
    assert story.accuracy_by_round(status) == {"rpi-4b": [(1, 0.5), (2, 0.9)]}


def test_a_result_sums_bytes_over_all_work_and_takes_the_highest_memory() -> None:
    (result,) = story.results(a_status("finished", devices=(a_device(done=True),)), CONTRACT.spec)
    assert (result.bytes_down, result.bytes_up, result.peak_resident_bytes) == (50, 10, 120)
    assert (result.shared_accuracy, result.personal_accuracy) == (0.95, 0.97)
    assert (result.early_p50_ms, result.full_depth_p50_ms) == (0.2, 0.4)


def test_a_device_without_a_personal_model_is_named() -> None:
    with pytest.raises(ChildFailed, match="rpi-4b has reported no personal model"):
        story.results(a_status("finished"), CONTRACT.spec)
