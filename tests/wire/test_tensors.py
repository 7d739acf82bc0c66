"""The packed tensor set: round trips, and what damaged or hostile bytes may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reefleet.errors import (
    NonFiniteValues,
    PayloadTooLarge,
    TruncatedPayload,
    UnsupportedVersion,
    WireError,
)
from reefleet.v1 import tensor_pb2 as pb
from reefleet.wire import layout
from reefleet.wire import tensors as t
from reefleet.wire.codebook import Grid

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=9)
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
HALVES = st.floats(-60000, 60000, width=16)
SCALES = st.floats(0, 2.0**100, width=32)
BOUND = 1 << 20


@st.composite
def free_codebooks(draw: st.DrawFn) -> t.CodebookTensor:
    bits = draw(st.integers(1, 8))
    codes = draw(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, (1 << bits) - 1)))
    centers = np.sort(draw(hnp.arrays(np.float32, 1 << bits, elements=FLOATS)))
    return t.CodebookTensor(codes, bits, centers)


@st.composite
def grid_codebooks(draw: st.DrawFn) -> t.CodebookTensor:
    free = draw(free_codebooks())
    steps = np.sort(draw(hnp.arrays(np.int8, 1 << free.bits, elements=st.integers(-127, 127))))
    scale = float(np.float32(draw(SCALES)))
    return t.CodebookTensor(free.codes, free.bits, Grid(steps, scale))


@st.composite
def int8_blocks(draw: st.DrawFn) -> t.Int8BlocksTensor:
    shape, block = draw(SHAPES), draw(st.integers(1, 200))
    count = int(np.prod(shape))
    steps = draw(hnp.arrays(np.int8, count, elements=st.integers(-127, 127)))
    scales = draw(hnp.arrays(np.float32, -(-count // block), elements=SCALES))
    return t.Int8BlocksTensor(steps, scales, block, shape)


ENCODED = st.one_of(
    hnp.arrays(np.float32, SHAPES, elements=FLOATS).map(t.Float32Tensor),
    hnp.arrays(np.float16, SHAPES, elements=HALVES).map(t.Float16Tensor),
    int8_blocks(),
    free_codebooks(),
    grid_codebooks(),
)
SETS = st.dictionaries(st.text(min_size=1, max_size=8), ENCODED, max_size=5)


def assert_same(found: t.EncodedTensor, given_: t.EncodedTensor) -> None:
    assert type(found) is type(given_)
    assert found.shape == given_.shape
    if isinstance(found, t.CodebookTensor) and isinstance(given_, t.CodebookTensor):
        assert np.array_equal(found.codes, given_.codes)
        assert found.bits == given_.bits
        assert isinstance(found.codebook, Grid) is isinstance(given_.codebook, Grid)
    assert np.array_equal(found.decode(), given_.decode())


@given(SETS, st.booleans())
def test_unpacking_gives_back_what_was_packed(
    tensors: dict[str, t.EncodedTensor], compress: bool
) -> None:
    found = t.unpack_tensors(t.pack_tensors(tensors, compress=compress), BOUND)
    assert list(found) == sorted(tensors)
    for name, tensor in tensors.items():
        assert_same(found[name], tensor)


@given(SETS)
def test_decoded_tensors_are_aligned_writable_float32(tensors: dict[str, t.EncodedTensor]) -> None:
    for tensor in t.unpack_tensors(t.pack_tensors(tensors), BOUND).values():
        values = tensor.decode()
        assert values.dtype == np.float32
        assert values.shape == tensor.shape
        assert values.flags.aligned
        assert values.flags.writeable


@given(SETS)
def test_shapes_are_read_without_the_payloads(tensors: dict[str, t.EncodedTensor]) -> None:
    packed = t.pack_tensors(tensors)
    header_end = 12 + int.from_bytes(packed[8:12], "little")
    shapes = {name: tensors[name].shape for name in sorted(tensors)}
    assert layout.read_layout(packed[:header_end]).shapes == shapes


@given(SETS)
def test_the_order_of_the_names_does_not_change_the_bytes(
    tensors: dict[str, t.EncodedTensor],
) -> None:
    turned = dict(reversed(tensors.items()))
    assert t.pack_tensors(turned) == t.pack_tensors(tensors)


def survives(data: bytes) -> None:
    """Either a refusal of ours, or tensors that are what their shape says."""
    try:
        found = t.unpack_tensors(data, BOUND)
    except WireError:
        return
    decoded = 0
    for tensor in found.values():
        values = tensor.decode()
        assert values.dtype == np.float32
        assert values.shape == tensor.shape
        decoded += values.nbytes
    assert decoded <= BOUND


def a_set(*, compress: bool) -> bytes:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, (20, 30)).astype(np.uint8)
    steps = rng.integers(-3, 4, 300).astype(np.int8)
    tensors: dict[str, t.EncodedTensor] = {
        "float32": t.Float32Tensor(np.linspace(-1, 1, 40, dtype=np.float32).round(1)),
        "float16": t.Float16Tensor(np.ones((5, 20), np.float16)),
        "int8": t.Int8BlocksTensor(steps, np.ones(3, np.float32), 128, (3, 100)),
        "free": t.CodebookTensor(codes, 2, np.array([-1, 0, 1, 2], np.float32)),
        "grid": t.CodebookTensor(codes, 2, Grid(np.array([-9, 0, 1, 7], np.int8), 0.5)),
    }
    return t.pack_tensors(tensors, compress=compress)


@pytest.mark.parametrize("compress", [False, True])
def test_every_truncation_is_refused(compress: bool) -> None:
    data = a_set(compress=compress)
    for length in range(len(data)):
        with pytest.raises(WireError):
            t.unpack_tensors(data[:length], BOUND)


@pytest.mark.parametrize("compress", [False, True])
def test_every_flipped_byte_of_the_header_is_refused_or_harmless(compress: bool) -> None:
    data = a_set(compress=compress)
    for position in range(12 + int.from_bytes(data[8:12], "little")):
        for flip in (0x01, 0x08, 0x80, 0xFF):
            survives(data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :])


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.data())
def test_any_flipped_byte_is_refused_or_harmless(compress: bool, data: st.DataObject) -> None:
    packed = bytearray(a_set(compress=compress))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    survives(bytes(packed))


@given(SETS, st.data())
def test_any_cut_or_flip_of_any_set_is_refused_or_harmless(
    tensors: dict[str, t.EncodedTensor], data: st.DataObject
) -> None:
    packed = bytearray(t.pack_tensors(tensors))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    survives(bytes(packed))
    survives(bytes(packed[: data.draw(st.integers(0, len(packed)))]))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_behind_a_good_start_are_refused_or_harmless(noise: bytes) -> None:
    survives(noise)
    survives(layout.MAGIC + len(noise).to_bytes(4, "little") + noise)


@pytest.mark.parametrize("extra", [1, 100])
def test_bytes_after_the_last_payload_are_refused(extra: int) -> None:
    with pytest.raises(WireError, match=f"{extra} bytes too many"):
        t.unpack_tensors(a_set(compress=False) + bytes(extra), BOUND)


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(WireError, match="not a packed tensor set"):
        t.unpack_tensors(b"\x89PNG\r\n\x1a\n" + bytes(40), BOUND)


@dataclass(frozen=True)
class Change:
    """One change of a good header, and the refusal it must lead to."""

    edit: Callable[[pb.TensorSet], object]
    error: type[WireError]
    text: str


def _entry(header: pb.TensorSet, name: str) -> pb.TensorEntry:
    return next(entry for entry in header.tensors if entry.name == name)


def _resize(header: pb.TensorSet, *shape: int) -> None:
    entry = _entry(header, "float32")
    entry.shape[:] = shape
    entry.plain_bytes = min(4 * int(np.prod(shape, dtype=object)), 2**64 - 1)


def _shift_payload(header: pb.TensorSet) -> None:
    _entry(header, "free").stored_bytes = 149
    _entry(header, "grid").stored_bytes = 151


CHANGES = {
    "newer format": Change(
        lambda h: setattr(h, "format_version", 2), UnsupportedVersion, "format 2.*update reefleet"
    ),
    "no format": Change(lambda h: h.ClearField("format_version"), WireError, "no format version"),
    "unknown encoding": Change(
        lambda h: _entry(h, "int8").ClearField("int8_blocks"), UnsupportedVersion, "encoding"
    ),
    "unknown compression": Change(
        lambda h: setattr(_entry(h, "int8"), "compression", 9), UnsupportedVersion, "compression 9"
    ),
    "no compression named": Change(
        lambda h: _entry(h, "int8").ClearField("compression"), UnsupportedVersion, "compression 0"
    ),
    "unknown centers": Change(
        lambda h: _entry(h, "grid").codebook.ClearField("grid"), UnsupportedVersion, "centers"
    ),
    "name twice": Change(
        lambda h: setattr(_entry(h, "grid"), "name", "free"), WireError, "'free' twice"
    ),
    "no name": Change(lambda h: setattr(_entry(h, "grid"), "name", ""), WireError, "not at all"),
    "empty axis": Change(lambda h: _resize(h, 5, 0), WireError, "'float32' has shape"),
    "too many axes": Change(lambda h: _resize(h, *[1] * 39, 40), WireError, "up to 8 axes"),
    "huge shape": Change(lambda h: _resize(h, 2**31, 2**20), PayloadTooLarge, "the limit is"),
    "overflowing shape": Change(lambda h: _resize(h, *[2**32 - 1] * 8), WireError, "announces"),
    "wrong plain size": Change(
        lambda h: setattr(_entry(h, "float16"), "plain_bytes", 7), WireError, "'float16' announces"
    ),
    "payload too long": Change(
        lambda h: setattr(_entry(h, "int8"), "stored_bytes", 10**6), TruncatedPayload, "are left"
    ),
    "payload shifted": Change(
        _shift_payload,
        WireError,
        "'free' stores 149 bytes of 150",
    ),
    "nine bits": Change(
        lambda h: setattr(_entry(h, "free").codebook, "bits", 9), WireError, "9 bits"
    ),
    "too few centers": Change(
        lambda h: _entry(h, "free").codebook.free.values.pop(), WireError, "3 centers"
    ),
    "center not finite": Change(
        lambda h: _entry(h, "free").codebook.free.values.__setitem__(3, np.inf),
        NonFiniteValues,
        "'free' has a center",
    ),
    "centers not sorted": Change(
        lambda h: _entry(h, "free").codebook.free.values.__setitem__(3, -5), WireError, "sorted"
    ),
    "steps not sorted": Change(
        lambda h: setattr(_entry(h, "grid").codebook.grid, "steps", b"\1\2\3\0"),
        WireError,
        "sorted",
    ),
    "step of -128": Change(
        lambda h: setattr(_entry(h, "grid").codebook.grid, "steps", b"\x80\2\3\4"),
        WireError,
        "below -127",
    ),
    "negative scale": Change(
        lambda h: setattr(_entry(h, "grid").codebook.grid, "scale", -1), NonFiniteValues, "scale"
    ),
    "scale not a number": Change(
        lambda h: setattr(_entry(h, "grid").codebook.grid, "scale", np.nan),
        NonFiniteValues,
        "scale",
    ),
    "scale that overflows": Change(
        lambda h: setattr(_entry(h, "grid").codebook.grid, "scale", 3e38), NonFiniteValues, "scale"
    ),
    "empty blocks": Change(
        lambda h: setattr(_entry(h, "int8").int8_blocks, "block_size", 0), WireError, "no values"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_header_is_refused_with_its_reason(change: Change) -> None:
    data = a_set(compress=False)
    payloads = 12 + int.from_bytes(data[8:12], "little")
    header = pb.TensorSet.FromString(data[12:payloads])
    change.edit(header)
    head = header.SerializeToString(deterministic=True)
    changed = layout.MAGIC + len(head).to_bytes(4, "little") + head + data[payloads:]
    with pytest.raises(change.error, match=change.text):
        t.unpack_tensors(changed, BOUND)


def test_a_header_over_its_bound_is_refused_before_it_is_read() -> None:
    data = layout.MAGIC + (layout.MAX_HEADER_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(PayloadTooLarge, match="header"):
        t.unpack_tensors(data, BOUND)


def test_the_bound_counts_values_decoded_to_float32() -> None:
    codes = np.zeros(1000, np.uint8)
    data = t.pack_tensors({"w": t.CodebookTensor(codes, 1, np.zeros(2, np.float32))})
    assert len(data) < 1000
    assert t.unpack_tensors(data, 4000)["w"].shape == (1000,)
    with pytest.raises(PayloadTooLarge, match="4000 bytes; the limit is 3999"):
        t.unpack_tensors(data, 3999)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1, 3e38])
def test_a_block_scale_that_cannot_be_decoded_is_refused(scale: float) -> None:
    scales = np.array([scale], np.float32)
    tensor = t.Int8BlocksTensor(np.ones(4, np.int8), scales, 8, (4,))
    with pytest.raises(NonFiniteValues, match="block scale"):
        t.unpack_tensors(t.pack_tensors({"w": tensor}), BOUND)


def test_a_block_step_of_minus_128_is_refused() -> None:
    steps = np.array([-128], np.int8)
    tensor = t.Int8BlocksTensor(steps, np.ones(1, np.float32), 8, (1,))
    with pytest.raises(WireError, match="below -127"):
        t.unpack_tensors(t.pack_tensors({"w": tensor}), BOUND)


def test_a_tensor_without_values_is_not_written() -> None:
    with pytest.raises(WireError, match="none of them empty"):
        t.pack_tensors({"w": t.Float32Tensor(np.zeros((2, 0), np.float32))})


def test_compression_is_used_only_where_it_wins() -> None:
    rng = np.random.default_rng(0)
    noise = t.Float32Tensor(rng.integers(0, 2**31, 500, np.int32).view(np.float32))
    header_of = {
        name: pb.TensorSet.FromString(data[12 : 12 + int.from_bytes(data[8:12], "little")])
        for name, data in {
            "noise": t.pack_tensors({"w": noise}),
            "zeros": t.pack_tensors({"w": t.Float32Tensor(np.zeros(500, np.float32))}),
        }.items()
    }
    assert header_of["noise"].tensors[0].compression == pb.COMPRESSION_NONE
    assert header_of["zeros"].tensors[0].compression == pb.COMPRESSION_ZSTD
    assert header_of["zeros"].tensors[0].stored_bytes < 100


def test_the_last_block_may_be_short() -> None:
    scales = np.array([1, 10, 100], np.float32)
    tensor = t.Int8BlocksTensor(np.arange(1, 6, dtype=np.int8), scales, 2, (5,))
    assert tensor.decode().tolist() == [1, 2, 30, 40, 500]


def test_a_set_may_lie_inside_a_larger_buffer() -> None:
    data = a_set(compress=True)
    inside = memoryview(b"xyz" + data + b"xyz")[3:-3]
    assert list(t.unpack_tensors(inside, BOUND)) == list(t.unpack_tensors(data, BOUND))
