"""The holder-wise mean."""

from __future__ import annotations

from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reefleet.aggregation.mean import HolderMean, HolderSums
from reefleet.errors import AggregationError, EmptyRound, ShapeConflict

Tensors = dict[str, NDArray[np.float32]]
RULE = HolderMean()
SHAPES = {"a": (3, 4), "b": (4,), "c": (1,)}


def a_model(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {n: np.asarray(rng.normal(size=s), np.float32) for n, s in SHAPES.items()}


def an_update(seed: int, names: str = "abc") -> Tensors:
    deltas = a_model(seed + 100).items()
    return {name: value * np.float32(0.1) for name, value in deltas if name in names}


def folded(model: Tensors, updates: list[tuple[Tensors, float]]) -> HolderSums:
    state = RULE.init(model)
    for update, weight in updates:
        state = RULE.fold(state, update, weight)
    return state


@st.composite
def rounds(draw: st.DrawFn) -> list[tuple[Tensors, float]]:
    count = draw(st.integers(1, 6))
    return [
        (an_update(draw(st.integers(0, 50)), draw(st.sampled_from(["a", "ab", "abc"]))), weight)
        for weight in draw(st.lists(st.integers(1, 5000), min_size=count, max_size=count))
    ]


@given(rounds(), st.randoms(use_true_random=False))
def test_the_order_of_the_updates_does_not_matter(
    updates: list[tuple[Tensors, float]], order: Random
) -> None:
    model, turned = a_model(), list(updates)
    order.shuffle(turned)
    first = RULE.finish(folded(model, updates), model)
    second = RULE.finish(folded(model, turned), model)
    for name, value in first.items():
        # Float32 sums of at most six weighted deltas of about 0.1, added to values of about 1.
        assert second[name] == pytest.approx(value, abs=1e-6)


@given(rounds())
def test_each_tensor_moves_by_the_weighted_mean_of_its_holders(
    updates: list[tuple[Tensors, float]],
) -> None:
    model = a_model()
    new = RULE.finish(folded(model, updates), model)
    for name, value in model.items():
        held = [(update[name].astype(float), w) for update, w in updates if name in update]
        mean = sum(d * w for d, w in held) / sum(w for _, w in held) if held else 0.0
        assert new[name] == pytest.approx(value + mean, abs=2e-6)


@given(rounds(), st.data())
def test_saving_and_loading_midway_gives_the_same_model(
    updates: list[tuple[Tensors, float]], data: st.DataObject
) -> None:
    model = a_model()
    cut = data.draw(st.integers(0, len(updates)))
    state = HolderSums.load(folded(model, updates[:cut]).save())
    for update, weight in updates[cut:]:
        state = RULE.fold(state, update, weight)
    straight = RULE.finish(folded(model, updates), model)
    resumed = RULE.finish(state, model)
    assert all(np.array_equal(resumed[name], value) for name, value in straight.items())


def test_a_tensor_that_nobody_held_is_unchanged_bit_for_bit() -> None:
    model = a_model()
    model["c"] = np.array([-0.0], np.float32)
    new = RULE.finish(folded(model, [(an_update(1, "ab"), 3)]), model)
    assert new["c"].tobytes() == model["c"].tobytes()
    assert not np.array_equal(new["a"], model["a"])


def test_devices_that_do_not_hold_a_tensor_do_not_dilute_it() -> None:
    model = {"w": np.zeros(1, np.float32), "v": np.zeros(1, np.float32)}
    one = np.ones(1, np.float32)
    state = folded(model, [({"w": one, "v": one}, 1), ({"v": 3 * one}, 1)])
    assert {n: v.tolist() for n, v in RULE.finish(state, model).items()} == {"w": [1], "v": [2]}


def test_samples_weigh_the_mean() -> None:
    model = {"w": np.zeros(1, np.float32)}
    state = folded(model, [({"w": np.full(1, v, np.float32)}, n) for v, n in [(1, 30), (-1, 10)]])
    assert RULE.finish(state, model)["w"].tolist() == [0.5]


def test_finishing_leaves_the_old_model_alone() -> None:
    model = a_model()
    RULE.finish(folded(model, [(an_update(1), 1)]), model)
    assert all(np.array_equal(model[name], value) for name, value in a_model().items())


def test_a_round_without_updates_is_refused() -> None:
    model = a_model()
    with pytest.raises(EmptyRound):
        RULE.finish(RULE.init(model), model)


@pytest.mark.parametrize("bad", [{"d": np.zeros(1)}, {"b": np.zeros((4, 1))}, {"b": np.zeros(1)}])
def test_an_update_that_does_not_fit_changes_nothing(bad: Tensors) -> None:
    model = a_model()
    state = folded(model, [(an_update(1), 2)])
    before = {name: value.copy() for name, value in state.save().items()}
    with pytest.raises(ShapeConflict, match=f"{next(iter(bad))!r}"):
        RULE.fold(state, {**an_update(2, "a"), **bad}, 1)
    assert all(np.array_equal(state.save()[name], value) for name, value in before.items())


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_is_refused(weight: float) -> None:
    with pytest.raises(AggregationError, match="weight"):
        RULE.fold(RULE.init(a_model()), an_update(1), weight)


def test_another_model_than_the_one_started_for_is_refused() -> None:
    state = folded(a_model(), [(an_update(1), 1)])
    with pytest.raises(ShapeConflict):
        RULE.finish(state, {"a": a_model()["a"]})


def test_an_incomplete_saved_state_is_refused() -> None:
    arrays = folded(a_model(), [(an_update(1), 1)]).save()
    for missing in ("updates", "weight/a"):
        with pytest.raises(AggregationError, match=missing):
            HolderSums.load({name: value for name, value in arrays.items() if name != missing})


def test_all_orders_of_a_small_round_agree() -> None:
    model = a_model()
    updates = [(an_update(1, "a"), 7.0), (an_update(2, "ab"), 3.0), (an_update(3), 110.0)]
    models = [RULE.finish(folded(model, list(order)), model) for order in permutations(updates)]
    for other in models[1:]:
        for name, value in models[0].items():
            assert other[name] == pytest.approx(value, abs=1e-6)
