import numpy as np
import pytest

from reefleet.aggregation.mean import HolderMean, HolderSums
from reefleet.aggregation.tiers import Tiers

RULE = Tiers((1, 2))
MODEL = {
    name: np.zeros(1, np.float32)
    for name in ("embed", "blocks.0.w", "tier.1.blocks.0.w", "blocks.1.w")
}


def folded(**moves: float) -> HolderSums:
    state = HolderMean().init(MODEL)
    update = {name.replace("__", "."): np.array([v], np.float32) for name, v in moves.items()}
    return HolderMean().fold(state, update, 1.0)


def test_the_last_block_of_a_tier_is_its_own_but_for_the_deepest() -> None:
    assert RULE.server_name("blocks.0.w", 1) == "tier.1.blocks.0.w"
    assert RULE.server_name("blocks.0.w", 2) == "blocks.0.w"
    assert RULE.server_name("blocks.1.w", 2) == "blocks.1.w"


def test_shared_tensors_take_the_mean_over_tiers_by_devices() -> None:
    shallow = folded(embed=1.0, tier__1__blocks__0__w=1.0)
    HolderMean().fold(shallow, {"embed": np.array([1.0], np.float32)}, 5.0)
    deep = folded(embed=4.0, blocks__0__w=1.0, blocks__1__w=1.0)
    model, _ = RULE.finish({1: shallow, 2: deep}, MODEL, {})
    assert model["embed"] == pytest.approx(2.0)  # two devices moved by 1, one by 4


def test_a_private_block_learns_from_the_tier_above_one_round_later() -> None:
    first = {1: folded(tier__1__blocks__0__w=1.0), 2: folded(blocks__1__w=5.0)}
    model, memory = RULE.finish(first, MODEL, {})
    assert model["tier.1.blocks.0.w"] == pytest.approx(0.8)
    assert memory["2/w"] == pytest.approx(-5.0)
    second = {1: folded(tier__1__blocks__0__w=1.0)}
    model, memory = RULE.finish(second, MODEL, memory)
    assert model["tier.1.blocks.0.w"] == pytest.approx(0.8 * 1.0 + 0.2 * 5.0)
    assert "2/w" not in memory


def test_blocks_of_another_shape_teach_nothing() -> None:
    model = {**MODEL, "blocks.1.w": np.zeros((2, 3), np.float32)}
    memory = {"2/w": np.ones((2, 3), np.float32)}
    state = HolderMean().init(model)
    HolderMean().fold(state, {"tier.1.blocks.0.w": np.ones(1, np.float32)}, 1.0)
    moved, _ = RULE.finish({1: state}, model, memory)
    assert moved["tier.1.blocks.0.w"] == pytest.approx(1.0)
    wide = Tiers((2, 3))
    pair = {"blocks.0.w": np.zeros(1, np.float32), "blocks.1.w": np.zeros((2, 3), np.float32)}
    state = HolderMean().init(pair)
    HolderMean().fold(state, {n: np.ones_like(v) for n, v in pair.items()}, 1.0)
    moved, memory = wide.finish({2: state}, pair, {})
    assert moved["blocks.1.w"] == pytest.approx(np.ones((2, 3)))
    assert memory == {}
