"""Upload codecs as chains: clipping and coding compose, and each client gets what it knows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reefleet.errors import ConfigError, WireError
from reefleet.plan import KNOWN_CODECS, UPLOAD_CODECS, CodecStage, SubmodelPlan, codec_stages
from reefleet.wire import codecs

SHAPES = {"w": (40, 40), "b": (40,)}
BOUNDS = st.floats(1e-3, 1e3)


def a_delta(scale: float = 1.0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return {n: rng.normal(0, scale, s).astype(np.float32) for n, s in SHAPES.items()}


def norm(values: dict[str, NDArray[Any]]) -> float:
    return math.sqrt(sum(float(np.square(v, dtype=np.float64).sum()) for v in values.values()))


@pytest.mark.parametrize("codec", UPLOAD_CODECS)
def test_a_single_name_is_a_chain_of_one(codec: str) -> None:
    assert codec_stages(codec) == (CodecStage(codec),)


def test_a_chain_is_read_in_the_order_of_the_device() -> None:
    stages = codec_stages("clip:0.5,int8")
    assert stages == (CodecStage("clip", 0.5), CodecStage("int8"))


BAD = ["", "gzip", "clip:1", "clip,int8", "int8,clip:1", "int8,int8", "noise:1,int8"]
BAD += [f"clip:{bound},int8" for bound in ("0", "-1", "nan", "inf", "one")]
BAD += ["clip:1," * 4 + "int8"]


@pytest.mark.parametrize("codec", BAD)
def test_what_is_no_chain_is_refused_by_plan_and_coder(codec: str) -> None:
    assert codec_stages(codec) == ()
    with pytest.raises(ConfigError, match="codec"):
        SubmodelPlan(1, 8, 1, 1, 1, codec)
    with pytest.raises(WireError, match="is not one of float32"):
        codecs.encode_update(a_delta(), codec, {})


@given(BOUNDS, st.sampled_from(UPLOAD_CODECS), st.floats(1e-4, 1e2))
def test_what_arrives_is_no_longer_than_the_bound(bound: float, codec: str, scale: float) -> None:
    chain = f"clip:{bound!r},{codec}"
    data, _ = codecs.encode_update(a_delta(scale), chain, {})
    arrived = codecs.decode_update(data, SHAPES, chain)
    assert norm(arrived) <= bound * 1.1


@pytest.mark.parametrize("codec", UPLOAD_CODECS)
def test_an_update_within_the_bound_travels_as_if_there_were_none(codec: str) -> None:
    plain = codecs.encode_update(a_delta(), codec, {})
    clipped = codecs.encode_update(a_delta(), f"clip:1000.0,{codec}", {})
    assert plain[0] == clipped[0]
    assert plain[1].keys() == clipped[1].keys()
    assert all(np.array_equal(value, clipped[1][name]) for name, value in plain[1].items())


def test_clipping_keeps_the_direction() -> None:
    delta = a_delta()
    data, residual = codecs.encode_update(delta, "clip:1.0,float32", {})
    arrived = codecs.decode_update(data, SHAPES)
    assert norm(arrived) == pytest.approx(1.0, rel=1e-5)
    for name, value in delta.items():
        assert arrived[name] == pytest.approx(value / norm(delta), rel=1e-4, abs=1e-6)
    assert residual == {}  # what was cut off is not fed back, and float32 loses nothing


@pytest.mark.parametrize("codec", ["int8", "codebook4", "float16"])
def test_rounding_is_fed_back_and_what_was_cut_off_is_not(codec: str) -> None:
    delta = a_delta()
    data, residual = codecs.encode_update(delta, f"clip:1.0,{codec}", {})
    arrived = codecs.decode_update(data, SHAPES)
    for name, value in delta.items():
        meant = value * np.float32(1.0 / norm(delta))
        assert arrived[name] + residual.get(name, 0) == pytest.approx(meant, abs=1e-6)


def test_the_residual_is_within_the_bound_too() -> None:
    delta = a_delta()
    data, _ = codecs.encode_update(delta, "clip:2.0,float32", a_delta(5.0))
    assert norm(codecs.decode_update(data, SHAPES)) <= 2.0 * (1 + 1e-6)


def test_the_server_sees_where_a_client_has_not_clipped() -> None:
    data, _ = codecs.encode_update(a_delta(), "int8", {})
    with pytest.raises(WireError, match=r"should have been clipped to 1, its norm is"):
        codecs.decode_update(data, SHAPES, "clip:1.0,int8")


@pytest.mark.parametrize("codec", ["float32", "clip:1.0,float32"])
def test_coding_in_a_chain_leaves_its_input_alone(codec: str) -> None:
    delta = a_delta()
    codecs.encode_update(delta, codec, {})
    assert all(np.array_equal(delta[n], value) for n, value in a_delta().items())


@pytest.mark.parametrize(
    ("wanted", "known", "chain"),
    [
        ("clip:1.0,int8", KNOWN_CODECS, "clip:1.0,int8"),
        ("clip:1.0,int8", (), "int8"),
        ("int8", (), "int8"),
        ("codebook4", ("clip", "float32", "int8"), "int8"),
        ("clip:0.25,codebook2", ("clip", "float16"), "clip:0.25,float16"),
        ("int8", ("something new",), "float32"),
        ("float16", ("float32", "int8"), "float32"),
    ],
)
def test_a_client_gets_the_part_of_a_chain_that_it_knows(
    wanted: str, known: tuple[str, ...], chain: str
) -> None:
    assert codecs.agreed(wanted, known) == chain


@given(st.floats(1e-6, 1e6), st.sampled_from(UPLOAD_CODECS))
def test_an_agreed_chain_is_a_chain_with_the_same_bound(bound: float, codec: str) -> None:
    wanted = f"clip:{bound!r},{codec}"
    assert codec_stages(codecs.agreed(wanted, KNOWN_CODECS)) == codec_stages(wanted)
