"""Trimmed mean, median and Krum: as numpy has them, by holder, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reefleet.aggregation.gathered import Gathered, Shape
from reefleet.aggregation.krum import Krum
from reefleet.aggregation.mean import HolderMean
from reefleet.aggregation.robust import TrimmedMean, median
from reefleet.blobs import sha256_hex
from reefleet.errors import AggregationError, EmptyRound, ShapeConflict
from reefleet.wire.codecs import encode_update
from reefleet.wire.packed import PackedFile

SHAPES: dict[str, Shape] = {"a": (5,), "b": (2, 3), "s": ()}
DEPTHS = ("a", "as", "asb")  # what devices of each depth hold
SMALL_BLOCK = 32  # bytes, so that every tensor takes several blocks
RULES = [TrimmedMean(0.2), median(), Krum(0.2), Krum(0.25, keep=1)]


@dataclass
class Held:
    """An update in memory."""

    key: str
    values: Mapping[str, NDArray[np.float32]]
    reads: list[str] = field(default_factory=list)

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: value.shape for name, value in self.values.items()}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        self.reads.append(name)
        return self.values[name]


def an_update(seed: int, names: str = "asb", scale: float = 1.0) -> Held:
    rng = np.random.default_rng(seed)
    values = {n: np.asarray(rng.normal(0, scale, SHAPES[n]), np.float32) for n in names}
    return Held(f"update-{seed:03d}", values)


def a_model() -> dict[str, NDArray[np.float32]]:
    return dict(an_update(999).values)


def finished(rule: Any, updates: list[Held]) -> dict[str, NDArray[np.float32]]:
    state = rule.init(a_model())
    for update in updates:
        state = rule.fold(state, update, 1.0)
    return dict(rule.finish(state, a_model()))


@st.composite
def cohorts(draw: st.DrawFn) -> list[Held]:
    held = draw(st.lists(st.sampled_from(DEPTHS), min_size=1, max_size=9))
    return [an_update(seed, names) for seed, names in enumerate(held)]


def plain(rule: Any, stacked: NDArray[np.float32]) -> NDArray[Any]:
    """What numpy makes of the values of all holders of one tensor."""
    if isinstance(rule, TrimmedMean):
        if rule.trim == 0.5:
            return np.median(stacked, axis=0)
        cut = int(rule.trim * len(stacked) + 1e-9)
        ordered = np.sort(stacked.astype(np.float64), axis=0)
        return np.asarray(ordered[cut : len(stacked) - cut].mean(axis=0))
    raise AssertionError


@settings(deadline=None)
@given(cohorts(), st.sampled_from([TrimmedMean(0.2), TrimmedMean(0.0), median()]))
def test_each_tensor_moves_as_numpy_says_of_its_holders(updates: list[Held], rule: Any) -> None:
    small = TrimmedMean(rule.trim, SMALL_BLOCK)
    after, before = finished(small, updates), a_model()
    for name in SHAPES:
        held = [update.values[name] for update in updates if name in update.values]
        if held:
            expected = before[name] + plain(rule, np.stack(held))
            assert after[name] == pytest.approx(expected, abs=1e-6)
        else:
            assert after[name].tobytes() == before[name].tobytes()


@settings(deadline=None)
@given(cohorts(), st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_the_order_of_updates_does_not_matter(updates: list[Held], rule: Any, rng: Any) -> None:
    straight = finished(rule, updates)
    rng.shuffle(updates)
    shuffled = finished(rule, updates)
    assert all(shuffled[name].tobytes() == value.tobytes() for name, value in straight.items())


@settings(deadline=None)
@given(cohorts(), st.sampled_from(RULES), st.data())
def test_saving_and_loading_midway_gives_the_same_model(
    updates: list[Held], rule: Any, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(updates)))
    state = rule.init(a_model())
    for update in updates[:cut]:
        rule.fold(state, update)
    known = {update.key: update for update in updates}
    state = Gathered.load(state.save(), a_model(), known.__getitem__)
    for update in updates[cut:]:
        rule.fold(state, update)
    resumed, straight = rule.finish(state, a_model()), finished(rule, updates)
    assert all(resumed[name].tobytes() == value.tobytes() for name, value in straight.items())


def krum_of(stacked: NDArray[Any], bad: int, keep: int) -> NDArray[Any]:
    """Krum as its paper says, on flat updates [n, d]."""
    distances = np.square(stacked[:, None] - stacked[None]).sum(axis=2)
    near = max(1, len(stacked) - bad - 2)
    scores = [np.sort(np.delete(row, i))[:near].sum() for i, row in enumerate(distances)]
    best = np.argsort(scores, kind="stable")[:keep]
    return np.asarray(stacked[best].mean(axis=0))


@pytest.mark.parametrize(("share", "keep", "count"), [(0.2, 1, 7), (0.2, 0, 10), (0.0, 2, 4)])
def test_krum_is_that_of_the_paper_where_everybody_holds_everything(
    share: float, keep: int, count: int
) -> None:
    updates = [an_update(seed) for seed in range(count)]
    flat = np.stack([np.concatenate([u.values[n].ravel() for n in SHAPES]) for u in updates])
    bad = int(share * count)
    expected = krum_of(flat.astype(np.float64), bad, keep or count - bad)
    after, before = finished(Krum(share, keep, SMALL_BLOCK), updates), a_model()
    moved = np.concatenate([(after[n] - before[n]).ravel() for n in SHAPES])
    assert moved == pytest.approx(expected, abs=1e-6)


def test_krum_judges_tensors_among_their_own_holders() -> None:
    shallow = [an_update(seed, "a", 0.1) for seed in range(4)]
    deep = [an_update(seed, "asb", 0.1) for seed in range(4, 8)]
    only = [Held(u.key, {n: u.values[n] for n in "sb"}) for u in deep]
    alone, both = finished(Krum(0.25), only), finished(Krum(0.25), deep + shallow)
    assert both["b"].tobytes() == alone["b"].tobytes()
    assert not np.array_equal(both["a"], finished(Krum(0.25), deep)["a"])


@pytest.mark.parametrize("rule", [TrimmedMean(0.25), median(), Krum(0.25), Krum(0.25, keep=1)])
def test_a_minority_far_away_cannot_drag_the_model(rule: Any) -> None:
    good = [an_update(seed, scale=0.1) for seed in range(6)]
    bad = [Held(f"z{i}", {n: np.full(SHAPES[n], 1e6, np.float32) for n in "asb"}) for i in (1, 2)]
    after, before = finished(rule, good + bad), a_model()
    assert all(np.abs(after[name] - before[name]).max() < 0.5 for name in SHAPES)


def test_two_holders_are_averaged_by_krum() -> None:
    updates = [an_update(1), an_update(2)]
    mean = HolderMean()
    state = mean.init(a_model())
    for update in updates:
        state = mean.fold(state, update.values, 1.0)
    expected = mean.finish(state, a_model())
    after = finished(Krum(0.4), updates)
    assert all(after[name] == pytest.approx(expected[name], abs=1e-6) for name in SHAPES)


@pytest.mark.parametrize("rule", RULES)
def test_a_round_without_updates_is_refused(rule: Any) -> None:
    with pytest.raises(EmptyRound):
        finished(rule, [])


def test_an_update_of_another_model_is_refused_when_it_is_folded() -> None:
    rule = TrimmedMean()
    with pytest.raises(ShapeConflict, match="'a'"):
        rule.fold(rule.init(a_model()), Held("x", {"a": np.ones(4, np.float32)}))


def test_a_saved_state_without_keys_is_refused() -> None:
    with pytest.raises(AggregationError, match="incomplete"):
        Gathered.load({}, a_model(), lambda _: an_update(1))


def test_stored_updates_are_opened_tensor_by_tensor(tmp_path: Path) -> None:
    stored, decoded = [], []
    for seed in range(5):
        update = an_update(seed)
        data, residual = encode_update(update.values, "int8", {})
        path = tmp_path / f"{seed}.rft"
        path.write_bytes(data)
        stored.append(PackedFile(path, sha256_hex(data), SHAPES, scale=0.5))
        half = {n: (v - residual[n]) * np.float32(0.5) for n, v in update.values.items()}
        decoded.append(Held(sha256_hex(data), half))
    for rule in (TrimmedMean(0.2, SMALL_BLOCK), Krum(0.2)):
        from_files, from_memory = finished(rule, stored), finished(rule, decoded)  # type: ignore[arg-type]
        for name in SHAPES:
            assert from_files[name] == pytest.approx(from_memory[name], abs=1e-6)


def test_memory_holds_one_block_of_all_and_one_tensor() -> None:
    import tracemalloc

    shape = (1 << 18,)
    count, block = 24, 1 << 20
    base = np.random.default_rng(0).normal(size=shape[0] + count).astype(np.float32)

    @dataclass
    class Made:
        key: str
        offset: int
        shapes: dict[str, Shape] = field(default_factory=lambda: {"w": shape})

        def __getitem__(self, _name: str) -> NDArray[np.float32]:
            return base[self.offset : self.offset + shape[0]].copy()

    model = {"w": np.zeros(shape, np.float32)}
    for rule in (TrimmedMean(0.2, block), Krum(0.2, block_bytes=block)):
        state = rule.init(model)
        for number in range(count):
            rule.fold(state, Made(f"{number:02d}", number))
        tracemalloc.start()
        rule.moves(state)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # Not the 24 MiB of all updates: blocks, a tensor of 1 MiB, the result of 1 or 2.
        assert peak < 8 << 20
