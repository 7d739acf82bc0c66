import numpy as np
import pytest

from reefleet.aggregation.dynamic import Dynamic
from reefleet.aggregation.mean import HolderMean, HolderSums

OLD = {"a": np.array([1.0], np.float32), "deep": np.array([2.0], np.float32)}


def folded(*deltas: dict[str, float]) -> HolderSums:
    state = HolderMean().init(OLD)
    for delta in deltas:
        HolderMean().fold(state, {n: np.array([v], np.float32) for n, v in delta.items()}, 1.0)
    return state


def test_the_mean_is_pushed_on_by_what_holders_moved() -> None:
    rule = Dynamic(devices=4, alpha=0.5)
    state = folded({"a": 1.0}, {"a": 3.0})
    model, memory = rule.finish(state, OLD, {})
    # a - theta = 2, h = -0.5 * 2/4 * 2 = -0.5, theta = 3 + 0.5 / 0.5
    assert memory["a"] == pytest.approx(-0.5)
    assert model["a"] == pytest.approx(4.0)


def test_a_tensor_that_nobody_held_is_unchanged() -> None:
    memory = {"deep": np.array([-3.0], np.float32)}
    model, kept = Dynamic(4, 0.5).finish(folded({"a": 1.0}), OLD, memory)
    assert model["deep"] == OLD["deep"]
    assert kept["deep"] == memory["deep"]
