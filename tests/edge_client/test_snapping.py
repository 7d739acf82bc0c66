from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.snapping import coded, personal, quantized, snap
from reefleet.errors import UnsupportedVersion
from reefleet.wire import codebook


def a_state(seed: int, bits: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, 5)).astype(np.float32)
    return {
        "personal/w": weight,
        "personal/b": rng.normal(size=4).astype(np.float32),
        "centers/w": codebook.lloyd(weight, bits),
        "shared/w": weight.copy(),
    }


@given(st.integers(0, 1000), st.integers(1, 8))
def test_snapping_puts_weights_on_int8_steps_of_one_scale(seed: int, bits: int) -> None:
    state = a_state(seed, bits)
    untouched = state["personal/b"].copy()
    snap(state)
    scale = np.abs(state["centers/w"]).max() / 127
    steps = state["personal/w"] / scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert np.isin(state["personal/w"], state["centers/w"]).all()
    np.testing.assert_array_equal(state["personal/b"], untouched)


@given(st.integers(0, 1000), st.integers(1, 8))
def test_snapping_twice_moves_nothing_further(seed: int, bits: int) -> None:
    state = a_state(seed, bits)
    snap(state)
    once = state["personal/w"].copy()
    snap(state)
    np.testing.assert_allclose(state["personal/w"], once, rtol=1e-6)


def test_snapping_writes_into_the_arrays_it_was_given() -> None:
    state = a_state(0, 2)
    arrays = dict(state)
    snap(state)
    assert all(state[name] is arrays[name] for name in state)


def test_quantized_weights_sit_on_their_centers_and_the_rest_is_kept() -> None:
    state = a_state(0, 2)
    values = quantized(state)
    assert set(values) == set(personal(state)) == {"w", "b"}
    assert np.isin(values["w"], state["centers/w"]).all()
    assert set(coded(state)) == {"w"}
    assert quantized({"shared/w": state["shared/w"]}) == {}


def test_the_grid_policy_leaves_the_weights_where_they_are() -> None:
    state, once = a_state(0, 2), a_state(0, 2)
    snap(state, "grid")
    snap(once)
    np.testing.assert_array_equal(state["centers/w"], once["centers/w"])
    np.testing.assert_array_equal(state["personal/w"], a_state(0, 2)["personal/w"])
    snap(state)
    np.testing.assert_array_equal(state["personal/w"], once["personal/w"])


def test_free_centers_stay_where_they_are() -> None:
    state = a_state(0, 2)
    snap(state, "nearest")
    np.testing.assert_array_equal(state["centers/w"], a_state(0, 2)["centers/w"])
    assert np.isin(state["personal/w"], state["centers/w"]).all()


def test_a_policy_of_a_newer_compiler_is_refused() -> None:
    with pytest.raises(UnsupportedVersion, match="'magic'"):
        snap(a_state(0, 2), "magic")
