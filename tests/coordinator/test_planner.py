from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.planner import Budget, plan_for
from devices import catalog
from devices.profile import DeviceProfile
from reefleet.errors import ConfigError, NoFeasiblePlan, UnknownBoard
from reefleet.model import ModelSpec

DIGITS = ModelSpec(8, 2, 1, 64, 4, 6, 10, (2, 4, 6))
DEEP_DIGITS = ModelSpec(8, 2, 1, 64, 4, 8, 10, (2, 3, 6, 8))
DEIT_TINY = ModelSpec(224, 16, 3, 192, 3, 12, 100, (3, 6, 9, 12))

SMALL = Budget(
    latency_ms=4.2,
    memory_share=0.5,
    model_share=4e-4,
    round_deadline_s=5.0,
    batch_sizes=(16, 32),
)

budgets = st.builds(
    Budget,
    latency_ms=st.none() | st.floats(0.1, 1000),
    memory_share=st.floats(0.05, 1.0),
    model_share=st.floats(1e-5, 0.1),
    round_deadline_s=st.floats(0.5, 5000),
    min_bits=st.integers(1, 4),
    batch_sizes=st.sampled_from([(1, 2, 4, 8, 16, 32), (16, 32), (8,)]),
)
specs = st.sampled_from([DIGITS, DEEP_DIGITS, DEIT_TINY])
names = st.sampled_from(sorted(catalog.boards()))


def a_profile(board: str = "rpi-4b", samples: int = 250) -> DeviceProfile:
    return catalog.reference_profile(board, train_samples=samples)


def depth_of(profile: DeviceProfile, spec: ModelSpec, budget: Budget) -> int:
    """Depth of the plan, 0 where nothing fits."""
    try:
        return plan_for(profile, spec, budget).exit_depth
    except NoFeasiblePlan:
        return 0


def outcome_of(profile: DeviceProfile, spec: ModelSpec, budget: Budget) -> str:
    """All that the planner says, plan or refusal."""
    try:
        return str(plan_for(profile, spec, budget))
    except NoFeasiblePlan as error:
        return str(error)


@pytest.mark.parametrize(
    ("board", "choice"),
    [
        ("rpi-zero2w", (2, 4, 1, "codebook4")),
        ("rpi-3b-plus", (4, 8, 1, "int8")),
        ("rpi-4b", (6, 8, 1, "float16")),
        ("rpi-5", (6, 8, 2, "float16")),
        ("jetson-orin-nano", (6, 8, 2, "float16")),
    ],
)
def test_one_budget_gives_unequal_boards_unequal_sub_models(
    board: str, choice: tuple[int, int, int, str]
) -> None:
    plan = plan_for(a_profile(board), DIGITS, SMALL)
    assert (plan.exit_depth, plan.bits, plan.models, plan.codec) == choice


@pytest.mark.parametrize(
    ("board", "depth"),
    [("rpi-zero2w", 2), ("rpi-3b-plus", 3), ("rpi-4b", 6), ("rpi-5", 8), ("jetson-orin-nano", 8)],
)
def test_latency_alone_spreads_the_boards_over_the_exits(board: str, depth: int) -> None:
    assert plan_for(a_profile(board), DEEP_DIGITS, Budget(latency_ms=3.3)).exit_depth == depth


def test_the_choice_names_its_tightest_bound() -> None:
    plan = plan_for(a_profile("rpi-3b-plus"), DIGITS, SMALL)
    assert plan.why[0].startswith("chosen: depth 4 of 6, 8 bits, one model, batch 32; ")
    assert "the tightest bound: an answer takes" in plan.why[0]


def test_each_better_neighbour_is_refused_with_what_broke_and_by_how_much() -> None:
    why = plan_for(a_profile("rpi-zero2w"), DIGITS, SMALL).why
    deeper = next(line for line in why if line.startswith("not depth 4: "))
    assert re.search(r"an answer takes 4\.\d+ of 4\.2 ms, 0\.\d+ ms too much", deeper)
    assert any(line.startswith("not 5 bits: the packed sub-model takes") for line in why)
    assert any(line.startswith("not two models: ") and "training takes" in line for line in why)


def test_a_board_with_room_for_everything_refuses_nothing() -> None:
    plan = plan_for(a_profile("jetson-agx-orin-64gb"), DIGITS, Budget())
    assert (plan.exit_depth, plan.bits, plan.models, plan.batch_size) == (6, 8, 2, 32)
    assert not [line for line in plan.why if line.startswith("not ")]


def test_why_says_what_the_times_rest_on() -> None:
    plan = plan_for(a_profile("rpi-4b"), DIGITS, SMALL)
    assert "the catalog's prior for rpi-4b, sigma 40 %" in plan.why[-1]


def test_an_unknown_board_with_a_probe_is_planned_with_caution() -> None:
    stranger = DeviceProfile("toaster", 3686, 4, isa=("neon",), train_samples=250)
    plan = plan_for(stranger, DIGITS, SMALL)
    assert plan.exit_depth == 2
    assert "assumed a 35 Mbit/s network" in plan.why[-1]


def test_an_unknown_board_without_a_probe_is_refused() -> None:
    with pytest.raises(UnknownBoard, match="toaster"):
        plan_for(DeviceProfile("toaster"), DIGITS, SMALL)


def test_a_full_disk_is_a_bound_of_its_own() -> None:
    full = replace(a_profile(), storage_free_bytes=10 << 20)
    with pytest.raises(NoFeasiblePlan, match="files take"):
        plan_for(full, DIGITS, SMALL)


def test_a_board_with_no_memory_at_all_is_called_too_small() -> None:
    empty = replace(a_profile(), memory_available_mib=0)
    with pytest.raises(NoFeasiblePlan, match="the board is too small: training takes"):
        plan_for(empty, DIGITS, SMALL)


def test_more_samples_than_the_deadline_bears_cost_depth_first() -> None:
    few = plan_for(a_profile("rpi-3b-plus", 250), DIGITS, SMALL)
    many = plan_for(a_profile("rpi-3b-plus", 600), DIGITS, SMALL)
    assert (few.exit_depth, many.exit_depth) == (4, 2)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"latency_ms": 0.0}, "latency_ms"),
        ({"min_bits": 5, "max_bits": 4}, "min_bits"),
        ({"batch_sizes": ()}, "batch_sizes"),
    ],
)
def test_an_impossible_budget_is_refused_by_name(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Budget(**values)  # type: ignore[arg-type]  # the case is chosen by name


@settings(max_examples=60, deadline=None)
@given(names, specs, budgets, st.integers(50, 60000), st.integers(1, 60000))
def test_more_memory_never_gives_a_shallower_plan(
    name: str, spec: ModelSpec, budget: Budget, memory_mib: int, more_mib: int
) -> None:
    small = replace(a_profile(name), memory_available_mib=memory_mib)
    large = replace(small, memory_available_mib=memory_mib + more_mib)
    assert depth_of(large, spec, budget) >= depth_of(small, spec, budget)


@settings(max_examples=60, deadline=None)
@given(names, specs, budgets, st.floats(0.1, 500), st.floats(1.0, 10.0))
def test_tighter_latency_never_gives_a_deeper_plan(
    name: str, spec: ModelSpec, budget: Budget, latency_ms: float, factor: float
) -> None:
    loose = replace(budget, latency_ms=latency_ms * factor)
    tight = replace(budget, latency_ms=latency_ms)
    assert depth_of(a_profile(name), spec, tight) <= depth_of(a_profile(name), spec, loose)


@settings(max_examples=60, deadline=None)
@given(names, specs, budgets)
def test_the_same_facts_always_give_the_same_plan(
    name: str, spec: ModelSpec, budget: Budget
) -> None:
    assert outcome_of(a_profile(name), spec, budget) == outcome_of(a_profile(name), spec, budget)


@settings(max_examples=80, deadline=None)
@given(names, specs, budgets)
def test_relaxing_as_the_refusal_says_gives_a_plan(
    name: str, spec: ModelSpec, budget: Budget
) -> None:
    try:
        plan_for(a_profile(name), spec, budget)
    except NoFeasiblePlan as error:
        if "too small" in str(error):
            return
        raised = re.findall(r"raise (\w+) from \S+ to ([0-9.e+-]+)", str(error))
        assert raised
        relaxed = budget
        for setting, value in raised:
            relaxed = replace(relaxed, **{setting: float(value)})  # type: ignore[arg-type]  # shares
        assert plan_for(a_profile(name), spec, relaxed).exit_depth == spec.exits[0]
