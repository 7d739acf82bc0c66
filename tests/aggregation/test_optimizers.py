"""Server optimizers: the papers' formulas, by holder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from reefleet.aggregation.optimizers import Name, ServerOptimizer
from reefleet.errors import ShapeConflict

MODEL = {"a": np.array([1.0, -2.0, 0.5], np.float32), "b": np.array([[3.0]], np.float32)}
NAMES: list[Name] = ["fedavgm", "fedadam", "fedyogi"]
MOVES = st.lists(
    hnp.arrays(np.float32, 3, elements=st.floats(-2, 2, width=16)), min_size=1, max_size=5
)


def reference(
    optimizer: ServerOptimizer, value: NDArray[Any], moves: list[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Algorithm 2 of the paper, line by line, in float64."""
    x, m = value.astype(np.float64), np.zeros(3)
    v = np.full(3, optimizer.adaptivity**2)
    b1, b2 = optimizer.momentum, optimizer.decay
    for move in moves:
        d = move.astype(np.float64)
        if optimizer.name == "fedavgm":
            m = b1 * m + d
            x = x + optimizer.rate * m
            continue
        m = b1 * m + (1 - b1) * d
        if optimizer.name == "fedadam":
            v = b2 * v + (1 - b2) * d**2
        else:
            v = v - (1 - b2) * d**2 * np.sign(v - d**2)
        x = x + optimizer.rate * m / (np.sqrt(v) + optimizer.adaptivity)
    return x


@settings(deadline=None)
@given(MOVES, st.sampled_from(NAMES))
def test_steps_are_those_of_the_paper(moves: list[NDArray[np.float32]], name: Name) -> None:
    optimizer = ServerOptimizer(name, rate=0.1, momentum=0.8, decay=0.95, adaptivity=0.01)
    model: Any = dict(MODEL)
    memory: Any = {}
    for move in moves:
        model, memory = optimizer.step(model, {"a": move}, memory)
    assert model["a"] == pytest.approx(reference(optimizer, MODEL["a"], moves), rel=2e-4, abs=2e-4)


def test_plain_sgd_is_averaging_bit_for_bit() -> None:
    move = np.array([0.1, 1e-9, -3.0], np.float32)
    expected = MODEL["a"] + move
    model, memory = ServerOptimizer().step(MODEL, {"a": move}, {})
    assert model["a"].tobytes() == expected.tobytes()
    assert memory == {}


def test_a_smaller_rate_goes_part_of_the_way() -> None:
    move = np.array([1.0, 2.0, 4.0], np.float32)
    model, _ = ServerOptimizer(rate=0.5).step(MODEL, {"a": move}, {})
    assert model["a"].tolist() == [1.5, -1.0, 2.5]


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_that_nobody_held_keeps_its_value_and_its_moments(name: Name) -> None:
    optimizer = ServerOptimizer(name)
    moves = {n: np.ones_like(value) for n, value in MODEL.items()}
    model, memory = optimizer.step(MODEL, moves, {})
    after, kept = optimizer.step(model, {"a": moves["a"]}, memory)
    assert after["b"].tobytes() == model["b"].tobytes()
    held = [n for n in memory if n.endswith("/b")]
    assert held
    assert all(kept[n].tobytes() == memory[n].tobytes() for n in held)
    assert not np.array_equal(after["a"], model["a"])


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_left_alone(name: Name) -> None:
    optimizer = ServerOptimizer(name)
    moves = {"a": np.ones(3, np.float32)}
    model, memory = optimizer.step(MODEL, moves, {})
    before = {n: value.copy() for n, value in {**model, **memory}.items()}
    optimizer.step(model, moves, memory)
    assert all(np.array_equal({**model, **memory}[n], value) for n, value in before.items())
    assert MODEL["a"].tolist() == [1.0, -2.0, 0.5]


def test_the_memory_of_another_optimizer_is_dropped() -> None:
    moves = {"a": np.ones(3, np.float32)}
    _, memory = ServerOptimizer("fedavgm").step(MODEL, moves, {})
    fresh, kept = ServerOptimizer("fedadam").step(MODEL, moves, memory)
    expected, _ = ServerOptimizer("fedadam").step(MODEL, moves, {})
    assert np.array_equal(fresh["a"], expected["a"])
    assert all(n.startswith("fedadam/") for n in kept)


@pytest.mark.parametrize("bad", [{"c": np.ones(3)}, {"a": np.ones(4)}])
def test_a_move_of_another_model_is_refused(bad: Any) -> None:
    with pytest.raises(ShapeConflict, match="of another model"):
        ServerOptimizer().step(MODEL, bad, {})
