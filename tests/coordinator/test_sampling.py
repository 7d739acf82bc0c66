"""Cohorts: everybody, or a draw in which every block has its holders."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coordinator.records import Device
from coordinator.sampling import cohort, holders, unheld
from reefleet.plan import SubmodelPlan

depths = st.lists(st.integers(1, 12), min_size=1, max_size=40)


def a_device(name: str, depth: int) -> Any:
    return Device(name, "1", "", 0.0, plan=SubmodelPlan(depth, 8, 4, 1, 1, "int8"))


def a_fleet(of_depths: list[int]) -> list[Any]:
    return [a_device(f"d{n:02}", depth) for n, depth in enumerate(of_depths)]


FLEET = a_fleet([1, 1, 1, 1, 2, 2, 3])


def test_without_a_size_everybody_takes_part_in_order_of_names() -> None:
    assert cohort(FLEET[::-1], 0, 1) == FLEET
    assert cohort(FLEET, 99, 1) == FLEET


def test_a_lone_deep_device_is_always_taken_and_its_lower_blocks_get_a_second_holder() -> None:
    for seed in range(20):
        assert [d.plan.exit_depth for d in cohort(FLEET, 1, seed)] == [3]
        assert sorted(d.plan.exit_depth for d in cohort(FLEET, 2, seed)) == [2, 3]


def test_the_same_round_chooses_the_same_devices_and_others_in_time() -> None:
    assert cohort(FLEET, 3, 7) == cohort(FLEET[::-1], 3, 7)
    chosen = {d.device_id for seed in range(50) for d in cohort(FLEET, 3, seed)}
    assert chosen == {d.device_id for d in FLEET}


@given(depths, st.integers(1, 40), st.integers(0, 99), st.integers(1, 3))
def test_every_block_has_as_many_holders_as_the_fleet_and_the_cohort_allow(
    of_depths: list[int], size: int, seed: int, least: int
) -> None:
    fleet = a_fleet(of_depths)
    chosen = cohort(fleet, size, seed, least)
    assert len(chosen) == min(size, len(fleet))
    assert len({d.device_id for d in chosen}) == len(chosen)
    for block in range(1, 13):
        assert holders(chosen, block) >= min(least, size, holders(fleet, block))


def test_blocks_without_enough_holders_are_named() -> None:
    assert unheld(FLEET, 4) == [4]
    assert unheld(FLEET, 4, 2) == [3, 4]
