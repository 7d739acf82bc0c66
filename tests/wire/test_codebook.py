"""Lloyd's fit, midpoint assignment and the int8 grid."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from reefleet.wire.codebook import GRID_LIMIT, Grid, assign, lloyd, row_scales, settle, snap

BITS = st.integers(1, 8)
# Magnitudes over which squares stay within what float64 sums can tell apart.
FLOATS = st.floats(-1e6, 1e6, width=32)
VALUES = hnp.arrays(np.float32, st.integers(1, 120), elements=FLOATS)


@st.composite
def sorted_centers(draw: st.DrawFn) -> NDArray[np.float32]:
    count = 1 << draw(BITS)
    return np.sort(draw(hnp.arrays(np.float32, count, elements=FLOATS)))


def squared_error(values: NDArray[np.float32], centers: NDArray[np.float32]) -> float:
    distances = np.abs(values.astype(np.float64)[:, None] - centers.astype(np.float64)[None])
    return float((distances.min(axis=1) ** 2).sum())


@given(VALUES, sorted_centers())
def test_each_value_gets_its_nearest_center(
    values: NDArray[np.float32], centers: NDArray[np.float32]
) -> None:
    distances = np.abs(values.astype(np.float64)[:, None] - centers.astype(np.float64)[None])
    chosen = distances[np.arange(values.size), assign(values, centers)]
    assert np.array_equal(chosen, distances.min(axis=1))


@given(sorted_centers())
def test_a_center_is_assigned_to_itself(centers: NDArray[np.float32]) -> None:
    assert np.array_equal(centers[assign(centers, centers)], centers)


@pytest.mark.parametrize("count", [2, 4, 256])
def test_a_tie_goes_to_the_lower_center(count: int) -> None:
    centers = np.arange(count, dtype=np.float32)
    ties = centers[:-1] + np.float32(0.5)
    assert assign(ties, centers).tolist() == list(range(count - 1))


def test_a_midpoint_that_float32_cannot_hold_still_divides_exactly() -> None:
    low, high = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    assert assign(np.array([low, high]), np.array([low, high])).tolist() == [0, 1]


def test_codes_keep_the_shape_of_the_values() -> None:
    values = np.zeros((2, 3, 4), np.float32)
    assert assign(values, np.array([-1, 1], np.float32)).shape == values.shape


@given(VALUES, BITS)
def test_a_fit_is_never_worse_than_evenly_spaced_centers(
    values: NDArray[np.float32], bits: int
) -> None:
    even = np.linspace(values.min(), values.max(), 1 << bits, dtype=np.float32)
    # Centers are rounded to float32 at the end, which moves each by up to half a step.
    slack = values.size * float(np.spacing(np.abs(values).max())) ** 2
    fitted = squared_error(values, lloyd(values, bits))
    assert fitted <= squared_error(values, even) * (1 + 1e-5) + slack


@given(VALUES, BITS)
def test_fitted_centers_are_sorted_and_within_the_values(
    values: NDArray[np.float32], bits: int
) -> None:
    centers = lloyd(values, bits)
    assert centers.shape == (1 << bits,)
    assert centers.dtype == np.float32
    assert np.all(np.diff(centers) >= 0)
    assert values.min() <= centers[0]
    assert centers[-1] <= values.max()


@pytest.mark.parametrize("bits", range(1, 9))
def test_as_many_distinct_values_as_centers_are_fitted_exactly(bits: int) -> None:
    values = np.arange(1 << bits, dtype=np.float32)
    assert np.array_equal(lloyd(np.repeat(values, 3), bits), values)


def test_a_fit_to_no_values_is_all_zero() -> None:
    assert lloyd(np.zeros((0, 4), np.float32), 2).tolist() == [0, 0, 0, 0]


def test_two_bits_on_a_normal_law_reach_the_known_optimum() -> None:
    law = NormalDist()
    values = np.array([law.inv_cdf((i + 0.5) / 4000) for i in range(4000)], np.float32)
    centers = lloyd(values, 2, iterations=100)
    # Max (1960): levels 0.4528 and 1.510, distortion 0.1175; 1 % for the law cut into 4,000.
    assert np.abs(centers) == pytest.approx([1.510, 0.4528, 0.4528, 1.510], rel=0.01)
    assert squared_error(values, centers) / values.size == pytest.approx(0.1175, rel=0.01)


@given(sorted_centers())
def test_snapping_is_idempotent_in_its_steps(centers: NDArray[np.float32]) -> None:
    grid = snap(centers)
    assert np.array_equal(snap(grid.centers).steps, grid.steps)


@given(sorted_centers())
def test_snapped_centers_are_sorted_and_within_half_a_step(centers: NDArray[np.float32]) -> None:
    grid = snap(centers)
    assert np.all(np.diff(grid.steps.astype(int)) >= 0)
    assert np.abs(grid.steps.astype(int)).max() <= GRID_LIMIT
    # A relative rounding error of float32 at each end beside the half step.
    lost = np.abs(grid.centers.astype(np.float64) - centers)
    assert np.all(lost <= 0.5 * grid.scale + 1e-6 * np.abs(centers).max() + 1.5e-36)


def test_the_largest_center_takes_the_last_step() -> None:
    grid = snap(np.array([-2.0, 0.0, 0.5, 1.0], np.float32))
    assert grid.steps.tolist() == [-127, 0, 32, 64]
    assert grid.scale == pytest.approx(2 / 127)


@pytest.mark.parametrize("size", [0.0, 1e-44])
def test_centers_that_are_all_but_zero_snap_to_scale_zero(size: float) -> None:
    grid = snap(np.array([-size, size], np.float32))
    assert grid.scale == 0
    assert grid.centers.tolist() == [0, 0]


def test_a_grid_scale_is_a_float32_value() -> None:
    scale = snap(np.array([0.1, 0.3], np.float32)).scale
    assert isinstance(scale, float)
    assert scale == float(np.float32(scale))


def test_a_grid_gives_step_times_scale() -> None:
    grid = Grid(np.array([-2, 3], np.int8), 0.5)
    assert grid.centers.tolist() == [-1.0, 1.5]
    assert grid.centers.dtype == np.float32


@pytest.mark.parametrize("count", [2, 256])
def test_a_single_value_gets_a_code_of_rank_zero(count: int) -> None:
    codes = assign(np.array(count, np.float32), np.arange(count, dtype=np.float32))
    assert isinstance(codes, np.ndarray)
    assert codes.shape == ()
    assert codes == count - 1


def test_a_codebook_by_channel_holds_for_rows_over_their_scale() -> None:
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(3, 50)) * [[0.01], [1.0], [0.0]]).astype(np.float32)
    scales = row_scales(weights)
    np.testing.assert_allclose(scales, [*np.abs(weights[:2]).mean(1), 1.0], rtol=1e-6)
    centers = lloyd(weights / scales[:, None], 2)
    settled, _ = settle("nearest", weights, centers, scales)
    for row, scale in zip(settled, scales, strict=True):
        assert np.isin(row, (centers * scale).astype(np.float32)).all()
    # Shared levels over two rows of unlike size fit better than one codebook for both.
    plain, _ = settle("nearest", weights, lloyd(weights, 2))
    assert ((settled - weights) ** 2)[0].sum() < ((plain - weights) ** 2)[0].sum()
