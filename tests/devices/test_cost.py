from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import catalog, cost
from devices.capability import capability_of
from devices.cost import Estimate, Rates
from devices.speed import Speed, step_features, step_ms
from reefleet.model import ConvGeometry, ModelSpec, tensor_shapes
from reefleet.plan import TRAINED_SETS, UPLOAD_CODECS
from reefleet.wire.codecs import encode_update

DEIT_TINY = ModelSpec(224, 16, 3, 192, 3, 12, 100, (3, 6, 9, 12))
DIGITS = ModelSpec(8, 2, 1, 64, 4, 6, 10, (2, 4, 6))
CONV = ModelSpec(
    *(32, 2, 1, 64, 1, 4, 10, (2, 4)), conv=ConvGeometry(16, (16, 24, 32, 32), (1, 2, 2, 1))
)


def rates_of(board: str) -> Rates:
    return capability_of(catalog.reference_profile(board)).rates


@pytest.mark.parametrize(
    ("board", "depth", "expected_ms"),
    [("rpi-4b", 3, 49), ("rpi-4b", 12, 184), ("rpi-5", 12, 84), ("rpi-zero2w", 12, 549)],
)
def test_float_inference_agrees_with_the_published_priors(
    board: str, depth: int, expected_ms: float
) -> None:
    found = cost.forward_ms(DEIT_TINY, depth, rates_of(board)).value
    assert found == pytest.approx(expected_ms, rel=0.04)


def test_activations_agree_with_the_measured_ones() -> None:
    # 27.7 MiB an image with fused attention; the eager form also keeps the attention matrix.
    fused = 4 * 197 * (16 * 192 + 3) * 12 / 2**20
    eager = cost.activation_mib(DEIT_TINY, 12, 1)
    assert fused == pytest.approx(27.7, rel=0.01)
    assert eager == pytest.approx(2.75 * 12, rel=0.01)


@pytest.mark.parametrize(
    ("depth", "models", "peak_mib"), [(2, 1, 119), (2, 2, 131), (6, 1, 185), (6, 2, 216)]
)
def test_measured_training_processes_are_met_within_a_tenth(
    depth: int, models: int, peak_mib: float
) -> None:
    found = cost.client_peak_mib(DIGITS, depth, models, 32).value
    assert found == pytest.approx(peak_mib, rel=0.1)


def test_small_networks_pay_more_than_their_arithmetic() -> None:
    rates = rates_of("rpi-zero2w")
    arithmetic_ms = 2 * 3.708864 / rates.vit_gflops / rates.int8_speedup
    assert cost.answer_ms(DIGITS, 4, rates).value > 1.5 * arithmetic_ms


def test_an_answer_is_never_faster_than_reading_its_weights() -> None:
    fast = Rates(1e6, 0.1, 4.0, 1e9, memcpy_gbs=1.0)
    assert cost.answer_ms(DEIT_TINY, 12, fast).value == cost.weight_traffic_ms(DEIT_TINY, 12, fast)


def test_an_unknown_copy_rate_sets_no_floor() -> None:
    assert cost.weight_traffic_ms(DEIT_TINY, 12, Rates(1.0, 0.1, 1.0, 1.0)) == 0.0


def test_a_margin_is_taken_only_where_sigma_is_known() -> None:
    assert Estimate(10.0, 0.5).upper(2.0) == 20.0
    assert Estimate(10.0).upper() == 10.0


def test_a_step_costs_three_forward_passes_a_model_pass() -> None:
    rates = rates_of("rpi-4b")
    forward = cost.forward_ms(DIGITS, 4, rates).value
    one = cost.train_step_ms(DIGITS, 4, 1, 8, 1, rates).value
    two = cost.train_step_ms(DIGITS, 4, 2, 8, 5, rates).value
    assert one == pytest.approx(3 * forward)
    assert two == pytest.approx(5 * 10.5 * forward)


def test_a_short_last_batch_costs_a_full_one() -> None:
    assert cost.train_steps(33, 32, 2) == 4


def test_a_measured_board_is_reckoned_by_its_own_speed() -> None:
    speed = Speed((1.0, 0.0, 0.0, 0.0), 0.1, (2.0, *[0.0] * 6, 1.0), 0.2)
    rates = Rates(1.0, 0.5, 1.0, 1000.0, measured=speed)
    assert cost.answer_ms(DIGITS, 4, rates) == Estimate(4.0, 0.1)
    assert cost.train_step_ms(DIGITS, 4, 1, 8, 7, rates) == Estimate(8.0, 0.2)
    few = cost.train_step_ms(DIGITS, 4, 2, 2, 7, rates).value
    assert few < cost.train_step_ms(DIGITS, 4, 2, 8, 7, rates).value


def test_what_is_beyond_the_caches_costs_more() -> None:
    speed = Speed((1.0,) * 4, 0.1, (0.0,) * 4 + (3.0,) + (0.0,) * 3, 0.2, cache_mb=4.0)
    rates = Rates(1.0, 0.5, 1.0, 1000.0, measured=speed)
    small, large = (cost.train_step_ms(DIGITS, 4, 1, 8, b, rates).value for b in (1, 64))
    assert small == 0.0
    assert large > 10.0


def test_many_steps_are_reckoned_as_each_alone() -> None:
    speed = Speed((1.0,) * 4, 0.1, (0.2, 10.0, 2.5, 0.4, 0.18, 0.5, 30.0, 7.0), 0.2, cache_mb=2.0)
    rates = Rates(1.0, 0.5, 1.0, 1000.0, measured=speed)
    loads = [(d, m, w, b) for d in DIGITS.exits for m in (1, 2) for w in (2, 8) for b in (1, 32)]
    features = np.array([step_features(DIGITS, *load) for load in loads])
    alone = [cost.train_step_ms(DIGITS, *load, rates).value for load in loads]
    assert step_ms(speed, features) == pytest.approx(alone)


@pytest.mark.parametrize("trained", [name for name in TRAINED_SETS if name != "full"])
def test_training_fewer_tensors_costs_less_of_everything(trained: str) -> None:
    rates = rates_of("rpi-4b")
    model = replace(DEIT_TINY, adapter="" if trained == "frozen" else trained)
    for costs in (
        [cost.train_step_ms(model, 12, 1, 8, 4, rates, trained=s).value for s in (trained, "full")],
        [cost.update_bytes(model, 12, "int8", s) for s in (trained, "full")],
    ):
        assert costs[0] < costs[1]


@pytest.mark.parametrize("codec", UPLOAD_CODECS)
def test_bytes_on_the_wire_are_those_of_a_coded_update(codec: str) -> None:
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(DIGITS, 6)
    delta = {n: (0.01 * rng.standard_normal(s)).astype(np.float32) for n, s in shapes.items()}
    sent = len(encode_update(delta, codec, {})[0])
    assert cost.update_bytes(DIGITS, 6, codec) == pytest.approx(sent, rel=0.1)


def test_a_convolutional_model_has_every_cost() -> None:
    rates = rates_of("rpi-4b")
    for depth in CONV.exits:
        assert cost.answer_ms(CONV, depth, rates).value > 0
        assert cost.train_step_ms(CONV, depth, 2, 4, 8, rates).value > 0
        assert cost.client_peak_mib(CONV, depth, 2, 8).value > cost.CLIENT_BASE_MIB
        assert len(step_features(CONV, depth, 2, 4, 8)) == 8


def test_the_absolute_reserve_shrinks_on_a_small_board() -> None:
    assert cost.memory_to_reserve_mib(100.0, 329) == pytest.approx(115 + 32.9)
    assert cost.memory_to_reserve_mib(100.0, 4000) == pytest.approx(115 + 64)


def test_every_codec_has_a_size_and_coarser_ones_are_smaller() -> None:
    sizes = [cost.update_bytes(DIGITS, 4, codec) for codec in UPLOAD_CODECS]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == cost.download_bytes(DIGITS, 4)


@given(
    st.sampled_from(DIGITS.exits[:-1]),
    st.sampled_from([1, 2]),
    st.integers(1, 64),
    st.sampled_from(sorted(catalog.boards())),
)
def test_every_cost_grows_with_depth(depth: int, models: int, batch: int, board: str) -> None:
    rates = rates_of(board)
    deeper = DIGITS.exits[DIGITS.exits.index(depth) + 1]
    for costs in (
        [cost.answer_ms(DIGITS, d, rates).upper() for d in (depth, deeper)],
        [cost.train_step_ms(DIGITS, d, models, 4, batch, rates).upper() for d in (depth, deeper)],
        [cost.client_peak_mib(DIGITS, d, models, batch).value for d in (depth, deeper)],
        [cost.packed_size(DIGITS, d, 4) for d in (depth, deeper)],
        [cost.disk_bytes(DIGITS, d, cost.packed_size(DIGITS, d, 4)) for d in (depth, deeper)],
    ):
        assert costs[0] < costs[1]
