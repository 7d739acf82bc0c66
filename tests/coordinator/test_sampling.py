"""Cohorts: everybody, or a fair choice over the depths."""

from __future__ import annotations

from typing import Any

from coordinator.records import Device
from coordinator.sampling import cohort
from reefleet.plan import SubmodelPlan


def a_device(name: str, depth: int) -> Any:
    return Device(name, "1", "", 0.0, plan=SubmodelPlan(depth, 8, 4, 1, 1, "int8"))


FLEET = [a_device(f"d{n}", depth) for n, depth in enumerate([1, 1, 1, 1, 2, 2, 3])]


def test_without_a_size_everybody_takes_part_in_order_of_names() -> None:
    assert cohort(FLEET[::-1], 0, 1) == FLEET
    assert cohort(FLEET, 99, 1) == FLEET


def test_a_cohort_holds_every_depth_the_deepest_first() -> None:
    assert [d.plan.exit_depth for d in cohort(FLEET, 1, 1)] == [3]
    assert sorted(d.plan.exit_depth for d in cohort(FLEET, 3, 1)) == [1, 2, 3]
    assert sorted(d.plan.exit_depth for d in cohort(FLEET, 5, 1)) == [1, 1, 2, 2, 3]


def test_the_same_round_chooses_the_same_devices_and_others_in_time() -> None:
    assert cohort(FLEET, 3, 7) == cohort(FLEET[::-1], 3, 7)
    chosen = {d.device_id for seed in range(50) for d in cohort(FLEET, 3, seed)}
    assert chosen == {d.device_id for d in FLEET}
