"""Packing of 1 to 8 bit codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reefleet.errors import TruncatedPayload, WireError
from reefleet.wire import bitpack


@st.composite
def codes_and_bits(draw: st.DrawFn) -> tuple[list[int], int]:
    bits = draw(st.integers(1, 8))
    return draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=70)), bits


@given(codes_and_bits())
def test_unpacking_gives_back_what_was_packed(case: tuple[list[int], int]) -> None:
    codes, bits = case
    packed = bitpack.pack(np.array(codes, np.uint8), bits)
    assert bitpack.unpack(packed, bits, len(codes)).tolist() == codes


@given(codes_and_bits())
def test_the_first_code_lies_in_the_lowest_bits(case: tuple[list[int], int]) -> None:
    codes, bits = case
    stream = sum(code << (index * bits) for index, code in enumerate(codes))
    expected = stream.to_bytes(bitpack.packed_size(len(codes), bits), "little")
    assert bitpack.pack(np.array(codes, np.uint8), bits) == expected


@given(codes_and_bits(), st.data())
def test_unpacking_ignores_padding_bits(case: tuple[list[int], int], data: st.DataObject) -> None:
    codes, bits = case
    packed = bytearray(bitpack.pack(np.array(codes, np.uint8), bits))
    if padding := len(packed) * 8 - len(codes) * bits:
        packed[-1] |= data.draw(st.integers(0, (1 << padding) - 1)) << (8 - padding)
    assert bitpack.unpack(bytes(packed), bits, len(codes)).tolist() == codes


def test_codes_of_any_shape_are_packed_in_c_order() -> None:
    codes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert bitpack.pack(codes.T, 4) == bitpack.pack(codes.T.reshape(-1), 4)


def test_unpacked_codes_can_be_written_to() -> None:
    for bits in range(1, 9):
        codes = bitpack.unpack(bytes(bits), bits, 8)
        codes[0] = 1
        assert codes[0] == 1


def test_a_code_that_does_not_fit_is_refused() -> None:
    with pytest.raises(WireError, match="code 4 does not fit 2 bits"):
        bitpack.pack(np.array([1, 4], np.uint8), 2)


@pytest.mark.parametrize("bits", [-1, 0, 9])
def test_a_width_outside_one_to_eight_bits_is_refused(bits: int) -> None:
    with pytest.raises(WireError, match="1 to 8"):
        bitpack.pack(np.zeros(1, np.uint8), bits)
    with pytest.raises(WireError, match="1 to 8"):
        bitpack.unpack(b"\0", bits, 1)


def test_short_data_is_refused() -> None:
    with pytest.raises(TruncatedPayload, match="9 codes of 3 bits need 4 bytes, found 3"):
        bitpack.unpack(b"\0\0\0", 3, 9)


def test_long_data_is_refused() -> None:
    with pytest.raises(WireError, match="take 3 bytes, found 4"):
        bitpack.unpack(b"\0\0\0\0", 3, 8)
