"""Upload codecs: error feedback, and the refusals of what must not be averaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from reefleet.errors import (
    NonFiniteUpdate,
    NonFiniteValues,
    PayloadTooLarge,
    TensorMismatch,
    WireError,
)
from reefleet.model import Shape
from reefleet.plan import UPLOAD_CODECS
from reefleet.wire import codecs
from reefleet.wire import tensors as t

Tensors = dict[str, NDArray[np.float32]]
SHAPES: dict[str, Shape] = {"blocks.0.weight": (24, 32), "bias": (24,), "token": (1, 7), "s": ()}
CODECS = pytest.mark.parametrize("codec", UPLOAD_CODECS)
FLOATS = st.floats(-1000, 1000, width=32)
# Least share of the energy that must survive one coding of normal values.
LOSS = {"float32": 0.0, "float16": 1e-6, "int8": 1e-4, "codebook4": 0.012, "codebook2": 0.13}


def a_delta(seed: int, scale: float = 1e-2) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(rng.normal(scale=scale, size=shape), np.float32)
        for name, shape in SHAPES.items()
    }


@CODECS
def test_a_decoded_update_has_the_expected_names_and_shapes(codec: str) -> None:
    data, residual = codecs.encode_update(a_delta(0), codec, {})
    decoded = codecs.decode_update(data, SHAPES)
    assert {name: value.shape for name, value in decoded.items()} == SHAPES
    kept = {name: value.shape for name, value in residual.items()}
    assert kept == ({} if codec == "float32" else SHAPES)  # it loses nothing
    assert all(value.dtype == np.float32 for value in decoded.values())


@CODECS
def test_what_arrives_plus_the_residuals_is_what_was_trained(codec: str) -> None:
    arrived = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    trained = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    residual: Tensors = {}
    for round_ in range(6):
        delta = a_delta(round_)
        data, residual = codecs.encode_update(delta, codec, residual)
        for name, value in codecs.decode_update(data, SHAPES).items():
            arrived[name] += value
            trained[name] += delta[name]
    for name in SHAPES:
        # Each round adds one float32 rounding of values of about 1e-2.
        assert arrived[name] + residual.get(name, 0) == pytest.approx(trained[name], abs=1e-7)


@settings(deadline=None)
@given(
    st.lists(hnp.arrays(np.float32, 600, elements=FLOATS), min_size=1, max_size=3),
    st.sampled_from(UPLOAD_CODECS),
)
def test_error_feedback_holds_for_any_deltas(deltas: list[NDArray[np.float32]], codec: str) -> None:
    total, arrived = np.zeros(600), np.zeros(600)
    residual: Tensors = {}
    for delta in deltas:
        data, residual = codecs.encode_update({"w": delta}, codec, residual)
        arrived += codecs.decode_update(data, {"w": (600,)})["w"]
        total += delta
    # Float32 rounding of values that may reach a few thousand.
    assert arrived + residual.get("w", 0) == pytest.approx(total, abs=1e-2)


@CODECS
def test_the_loss_of_one_coding_is_bounded(codec: str) -> None:
    delta = np.random.default_rng(5).normal(size=(64, 96)).astype(np.float32)
    decoded = codecs.encode({"w": delta}, codec)["w"].decode()
    assert np.square(decoded - delta).sum() <= LOSS[codec] * np.square(delta).sum()


@CODECS
def test_coding_leaves_its_input_alone(codec: str) -> None:
    delta, residual = a_delta(0), a_delta(1, 1e-4)
    codecs.encode_update(delta, codec, residual)
    assert all(np.array_equal(delta[name], value) for name, value in a_delta(0).items())
    assert all(np.array_equal(residual[name], value) for name, value in a_delta(1, 1e-4).items())


@CODECS
@pytest.mark.parametrize("value", [0.0, 1e-42, 1e30, -1e-3])
def test_a_constant_tensor_survives_coding(codec: str, value: float) -> None:
    delta = {"w": np.full((40, 40), value, np.float32)}
    data, residual = codecs.encode_update(delta, codec, {})
    arrived = codecs.decode_update(data, {"w": (40, 40)})["w"]
    assert arrived + residual.get("w", 0) == pytest.approx(delta["w"], rel=1e-5)


def test_the_narrower_the_codec_the_fewer_the_bytes() -> None:
    sizes = [len(codecs.encode_update(a_delta(0), codec, {})[0]) for codec in UPLOAD_CODECS]
    assert sizes == sorted(sizes, reverse=True)


def test_float16_keeps_values_beyond_its_range_in_the_residual() -> None:
    data, residual = codecs.encode_update({"w": np.array([1e6], np.float32)}, "float16", {})
    assert codecs.decode_update(data, {"w": (1,)})["w"].tolist() == [65504]
    assert residual["w"].tolist() == [1e6 - 65504]


def test_small_tensors_are_not_given_a_codebook() -> None:
    encoded = codecs.encode(a_delta(0), "codebook2")
    assert isinstance(encoded["bias"], t.Float16Tensor)
    assert isinstance(encoded["blocks.0.weight"], t.CodebookTensor)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(WireError, match="codec 'gzip' is not one of float32, "):
        codecs.encode({}, "gzip")


@CODECS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_update_is_not_offered(codec: str, bad: float) -> None:
    delta = a_delta(0)
    delta["bias"][3] = bad
    with pytest.raises(NonFiniteUpdate, match="'bias'"):
        codecs.encode_update(delta, codec, {})


def test_a_residual_that_overflows_the_update_is_refused() -> None:
    large = {"w": np.full(3, 3e38, np.float32)}
    with pytest.raises(NonFiniteUpdate, match="'w'"):
        codecs.encode_update(large, "float32", large)


def test_a_residual_of_another_shape_is_refused() -> None:
    with pytest.raises(TensorMismatch, match="residual of tensor 'bias'"):
        codecs.encode_update(a_delta(0), "int8", {"bias": np.zeros(3, np.float32)})


def test_an_unknown_tensor_is_refused_by_name() -> None:
    data, _ = codecs.encode_update({**a_delta(0), "extra": np.ones(2, np.float32)}, "int8", {})
    with pytest.raises(TensorMismatch, match="'extra' is unknown"):
        codecs.decode_update(data, SHAPES)


def test_a_missing_tensor_is_refused_by_name() -> None:
    delta = a_delta(0)
    del delta["token"]
    data, _ = codecs.encode_update(delta, "int8", {})
    with pytest.raises(TensorMismatch, match="'token' is missing"):
        codecs.decode_update(data, SHAPES)


@pytest.mark.parametrize("shape", [(25,), (24, 1), (), (5000, 5000)])
def test_a_tensor_of_another_shape_is_refused_by_name(shape: Shape) -> None:
    data, _ = codecs.encode_update({**a_delta(0), "bias": np.zeros(shape, np.float32)}, "int8", {})
    with pytest.raises(TensorMismatch, match=r"'bias' has shape .*, expected \(24,\)"):
        codecs.decode_update(data, SHAPES)


@pytest.mark.parametrize("kind", [t.Float32Tensor, t.Float16Tensor])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_with_non_finite_values_is_refused_by_name(
    kind: type[t.Float32Tensor | t.Float16Tensor], bad: float
) -> None:
    dtype = np.float32 if kind is t.Float32Tensor else np.float16
    data = t.pack_tensors({"w": kind(np.array([0, bad], dtype))})
    with pytest.raises(NonFiniteValues, match="'w'"):
        codecs.decode_update(data, {"w": (2,)})


def test_scales_that_outweigh_their_values_are_refused() -> None:
    tensor = t.Int8BlocksTensor(np.ones(64, np.int8), np.ones(64, np.float32), 1, (64,))
    data = t.pack_tensors({"w": tensor}, compress=False)
    assert codecs.decode_update(data, {"w": (64,)})["w"].tolist() == [1.0] * 64
    with pytest.raises(PayloadTooLarge):
        t.unpack_tensors(data, 4 * 64)
