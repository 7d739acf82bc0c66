from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.planner import AccuracyTable, Budget, decide, default_table, plan_for
from coordinator.planner.fleet import plan_fleet
from coordinator.planner.options import options_of
from coordinator.planner.solve import Decision
from devices import catalog
from devices.capability import capability_of
from devices.profile import DeviceProfile
from reefleet.errors import ConfigError, NoFeasiblePlan, UnknownBoard
from reefleet.model import ConvGeometry, ModelSpec, packed_bytes, quantized_tensors
from reefleet.plan import SubmodelPlan

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
    trained=st.sampled_from([("full",), ("full", "frozen"), ("frozen",)]),
    least_share=st.sampled_from([1.0, 0.25]),
)
specs = st.sampled_from([DIGITS, DEEP_DIGITS, DEIT_TINY])
names = st.sampled_from(sorted(catalog.boards()))


def a_profile(board: str = "rpi-4b", samples: int = 250) -> DeviceProfile:
    return catalog.reference_profile(board, train_samples=samples)


@st.composite
def tables(draw: st.DrawFn, spec: ModelSpec) -> AccuracyTable:
    """Any table at all for a model, deeper not always better."""
    widths = (1, 2, 4, 8)
    shares = st.floats(0, 1)
    rows = draw(st.lists(st.tuples(*[shares] * 4), min_size=len(spec.exits), max_size=12))
    return AccuracyTable("drawn", spec.exits, widths, tuple(rows[: len(spec.exits)]))


def decided(
    profile: DeviceProfile, spec: ModelSpec, budget: Budget, table: AccuracyTable
) -> Decision | None:
    """The decision, None where nothing fits."""
    try:
        return decide(capability_of(profile), options_of(spec, budget, table))
    except NoFeasiblePlan:
        return None


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


def test_training_fewer_tensors_comes_where_all_of_them_miss_a_bound() -> None:
    either = replace(SMALL, trained=("full", "frozen"), least_share=1.0, max_models=1)
    slow = plan_for(a_profile("rpi-3b-plus", 450), DIGITS, either)
    fast = plan_for(a_profile("jetson-orin-nano", 450), DIGITS, either)
    assert (slow.exit_depth, slow.trained) == (4, "frozen")
    assert fast.trained == "full"
    assert any(line.startswith("not training full: a round takes") for line in slow.why)


@pytest.mark.parametrize(("runtime", "depth"), [("onnxruntime-float", 4), ("litert-int8", 6)])
def test_the_runtime_that_answers_decides_the_latency(runtime: str, depth: int) -> None:
    budget = replace(SMALL, latency_ms=5.0, model_share=0.01, runtime=runtime)
    assert plan_for(a_profile("rpi-3b-plus", 100), DIGITS, budget).exit_depth == depth


def harmed() -> AccuracyTable:
    """A table that has measured the tensors: the last block is harmed most by few bits."""
    table = default_table(DIGITS)
    names = quantized_tensors(DIGITS, DIGITS.depth)
    harm = tuple(
        (name, tuple((9.0 if ".5." in name else 1.0) * 4.0**-bits for bits in range(1, 9)))
        for name in sorted(names)
    )
    return replace(table, harm=harm)


def test_room_for_more_than_a_uniform_width_gives_mixed_bits_that_expect_more() -> None:
    table, share = harmed(), 0.0
    profile = a_profile("jetson-orin-nano")
    room = (packed_bytes(DIGITS, 6, 4) + packed_bytes(DIGITS, 6, 5)) / 2
    share = 1.001 * room / 2**20 / (profile.memory_available_mib or 1)
    uniform = plan_for(profile, DIGITS, Budget(model_share=share, mixed_bits=False), table)
    mixed = plan_for(profile, DIGITS, Budget(model_share=share), table)
    assert (uniform.exit_depth, uniform.bits, uniform.layer_bits) == (6, 4, ())
    assert mixed.exit_depth == 6
    assert packed_bytes(DIGITS, 6, mixed.layer_bits) <= room * 1.001
    assert sum(mixed.layer_bits[-4:]) > sum(mixed.layer_bits[:4])

    def expected(plan: SubmodelPlan) -> float:
        return float(re.findall(r"expected accuracy ([0-9.]+)", plan.why[0])[0])

    assert expected(mixed) > expected(uniform)
    assert mixed.why[0].startswith("chosen: depth 6 of 6, 4 to ")


def test_without_a_measurement_of_the_tensors_all_have_the_same_bits() -> None:
    plan = plan_for(a_profile("rpi-zero2w"), DIGITS, SMALL)
    assert plan.layer_bits == ()


def test_a_convolutional_model_is_planned_like_any_other() -> None:
    conv = ConvGeometry(16, (16, 24, 32, 32), (1, 2, 2, 1))
    model = ModelSpec(32, 2, 1, 64, 1, 4, 10, (2, 4), conv=conv)
    slow = plan_for(a_profile("rpi-zero2w"), model, Budget(latency_ms=3.0))
    fast = plan_for(a_profile("rpi-5"), model, Budget(latency_ms=3.0))
    assert (slow.exit_depth, fast.exit_depth) == (2, 4)


def test_a_full_disk_is_a_bound_of_its_own() -> None:
    full = replace(a_profile(), storage_free_bytes=10 << 20)
    with pytest.raises(NoFeasiblePlan, match="files take"):
        plan_for(full, DIGITS, SMALL)


def test_a_board_with_no_memory_at_all_is_called_too_small() -> None:
    empty = replace(a_profile(), memory_available_mib=0)
    with pytest.raises(NoFeasiblePlan, match="the board is too small: training takes"):
        plan_for(empty, DIGITS, SMALL)


def test_more_samples_than_the_deadline_bears_cost_depth_first() -> None:
    whole = replace(SMALL, least_share=1.0)
    few = plan_for(a_profile("rpi-3b-plus", 250), DIGITS, whole)
    many = plan_for(a_profile("rpi-3b-plus", 600), DIGITS, whole)
    assert (few.exit_depth, many.exit_depth) == (4, 2)


def test_part_of_an_epoch_comes_before_a_smaller_model() -> None:
    plan = plan_for(a_profile("rpi-3b-plus", 600), DIGITS, SMALL)
    steps = -(-600 // plan.batch_size)
    assert plan.exit_depth == 4
    assert plan.local_epochs == 1
    assert steps / 4 <= plan.local_steps < steps
    assert any("% of an epoch: a whole epoch misses a bound" in line for line in plan.why)


def test_a_whole_epoch_comes_before_a_personal_model() -> None:
    plan = plan_for(a_profile("rpi-3b-plus", 250), DIGITS, SMALL)
    assert (plan.models, plan.local_steps) == (1, 0)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"latency_ms": 0.0}, "latency_ms"),
        ({"min_bits": 5, "max_bits": 4}, "min_bits"),
        ({"batch_sizes": ()}, "batch_sizes"),
        ({"trained": ("half",)}, "trained"),
        ({"runtime": "abacus"}, "runtime"),
    ],
)
def test_an_impossible_budget_is_refused_by_name(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Budget(**values)  # type: ignore[arg-type]  # the case is chosen by name


@settings(max_examples=60, deadline=None)
@given(names, specs, budgets, st.data(), st.integers(50, 60000), st.integers(1, 60000))
def test_more_memory_never_gives_a_plan_of_lower_expected_accuracy(
    name: str, spec: ModelSpec, budget: Budget, data: st.DataObject, mib: int, more_mib: int
) -> None:
    table = data.draw(tables(spec))
    small = replace(a_profile(name), memory_available_mib=mib)
    large = replace(small, memory_available_mib=mib + more_mib)
    if before := decided(small, spec, budget, table):
        after = decided(large, spec, budget, table)
        assert after is not None
        assert after.expected_accuracy >= before.expected_accuracy


@settings(max_examples=60, deadline=None)
@given(names, specs, budgets, st.data(), st.floats(0.5, 2000), st.floats(1.0, 10.0))
def test_a_tighter_deadline_never_gives_a_slower_round(
    name: str, spec: ModelSpec, budget: Budget, data: st.DataObject, seconds: float, factor: float
) -> None:
    table = data.draw(tables(spec))
    profile = a_profile(name)
    tight = decided(profile, spec, replace(budget, round_deadline_s=seconds), table)
    loose = decided(profile, spec, replace(budget, round_deadline_s=seconds * factor), table)
    if tight:
        assert loose is not None
        assert (tight.need("round_deadline_s") or 0) <= (loose.need("round_deadline_s") or 0)


@settings(max_examples=60, deadline=None)
@given(names, specs, budgets, st.data(), st.floats(0.1, 500), st.floats(1.0, 10.0))
def test_a_tighter_latency_never_gives_a_slower_answer(
    name: str, spec: ModelSpec, budget: Budget, data: st.DataObject, ms: float, factor: float
) -> None:
    table = data.draw(tables(spec))
    profile = a_profile(name)
    tight = decided(profile, spec, replace(budget, latency_ms=ms), table)
    loose = decided(profile, spec, replace(budget, latency_ms=ms * factor), table)
    if tight:
        assert loose is not None
        assert (tight.need("latency_ms") or 0) <= (loose.need("latency_ms") or 0)


@settings(max_examples=80, deadline=None)
@given(names, specs, budgets, st.data(), st.integers(50, 60000), st.integers(1 << 26, 1 << 34))
def test_the_result_never_breaks_a_hard_bound(
    name: str, spec: ModelSpec, budget: Budget, data: st.DataObject, mib: int, disk: int
) -> None:
    budget = replace(
        budget,
        round_mib=data.draw(st.none() | st.floats(0.1, 100)),
        energy_j=data.draw(st.none() | st.floats(1, 1e5)),
    )
    profile = replace(a_profile(name), memory_available_mib=mib, storage_free_bytes=disk)
    if decision := decided(profile, spec, budget, data.draw(tables(spec))):
        held = {constraint.setting for constraint in decision.constraints(decision.chosen)}
        assert not [c for c in decision.constraints(decision.chosen) if c.broken]
        for setting in ("latency_ms", "round_mib"):
            assert (setting in held) == (getattr(budget, setting) is not None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(names, st.integers(100, 9000)), min_size=2, max_size=12), st.randoms())
def test_permuting_the_fleet_changes_nothing(
    kinds: list[tuple[str, int]], rng: random.Random
) -> None:
    fleet = [replace(a_profile(name), memory_available_mib=mib) for name, mib in kinds]
    order = list(range(len(fleet)))
    rng.shuffle(order)

    def outcomes(profiles: list[DeviceProfile]) -> list[str]:
        found = plan_fleet(profiles, DIGITS, SMALL)
        return [str(f.candidate if isinstance(f, Decision) else f) for f in found]

    straight = outcomes(fleet)
    assert outcomes([fleet[place] for place in order]) == [straight[place] for place in order]


def test_a_fleet_is_planned_as_each_device_is_alone() -> None:
    fleet = [a_profile(name) for name in sorted(catalog.boards())]
    for profile, found in zip(fleet, plan_fleet(fleet, DIGITS, SMALL), strict=True):
        alone = decided(profile, DIGITS, SMALL, default_table(DIGITS))
        assert (found.candidate if isinstance(found, Decision) else None) == (
            alone.candidate if alone else None
        )


def test_a_measured_table_may_rank_a_shallow_exit_first() -> None:
    table = AccuracyTable("measured", DIGITS.exits, (8,), ((0.7,), (0.95,), (0.9,)))
    plan = plan_for(a_profile("jetson-orin-nano"), DIGITS, Budget(min_bits=8), table)
    assert plan.exit_depth == 4
    assert "not depth 6: fits, but expects 0.9000" in plan.why


def test_of_equal_accuracy_the_fewer_bits_win() -> None:
    table = AccuracyTable("flat", DIGITS.exits, (2, 8), ((0.5, 0.5), (0.7, 0.7), (0.9, 0.9)))
    plan = plan_for(a_profile("jetson-orin-nano"), DIGITS, Budget(), table)
    assert (plan.exit_depth, plan.bits) == (6, 2)


def test_the_binding_bound_says_what_raising_it_would_give() -> None:
    why = plan_for(a_profile("rpi-3b-plus"), DIGITS, SMALL).why
    binding = next(line for line in why if line.startswith("binding: "))
    assert binding.startswith("binding: latency_ms and model_share; ")
    assert "for depth 6 with 8 bits" in binding
    relaxed = SMALL
    for setting, value in re.findall(r"raise (\w+) from \S+ to ([0-9.e-]+)", binding):
        relaxed = replace(relaxed, **{setting: float(value)})
    assert plan_for(a_profile("rpi-3b-plus"), DIGITS, relaxed).exit_depth == 6


def test_the_runner_up_is_the_next_best_that_fits() -> None:
    why = plan_for(a_profile("rpi-3b-plus"), DIGITS, SMALL).why
    assert any(line.startswith("runner-up: depth 4 with 7 bits") for line in why)


def test_fewer_bytes_a_round_mean_a_coarser_code_before_a_smaller_model() -> None:
    free = plan_for(a_profile("rpi-5"), DIGITS, SMALL)
    bound = plan_for(a_profile("rpi-5"), DIGITS, replace(SMALL, round_mib=1.65))
    assert (free.exit_depth, free.codec) == (6, "float16")
    assert (bound.exit_depth, bound.codec) == (6, "int8")


def test_fewer_local_epochs_come_before_a_smaller_model() -> None:
    many = replace(SMALL, local_epochs=8, least_epochs=1, round_deadline_s=10.0)
    plan = plan_for(a_profile("rpi-3b-plus"), DIGITS, many)
    assert plan.exit_depth == 4
    assert 1 <= plan.local_epochs < 8


def test_energy_binds_where_it_is_known_and_is_said_where_it_is_not() -> None:
    thrifty = replace(SMALL, energy_j=0.001)
    with pytest.raises(NoFeasiblePlan, match="a round draws"):
        plan_for(a_profile("rpi-4b"), DIGITS, thrifty)
    unknown = plan_for(a_profile("rpi-5"), DIGITS, thrifty)
    assert any(line.startswith("energy_j is not applied") for line in unknown.why)


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
        assert plan_for(a_profile(name), spec, relaxed).exit_depth in spec.exits
