"""The messages with bulk bytes: what protobuf writes and reads, without its copies."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from reefleet.errors import WireError
from reefleet.v1 import artifact_pb2, fleet_pb2
from reefleet.wire import chunks

NUMBERS = st.integers(0, (1 << 64) - 1)
DATA = st.binary(max_size=400)


@given(DATA, NUMBERS)
def test_what_is_fetched_is_what_protobuf_writes_and_reads(data: bytes, total: int) -> None:
    message = artifact_pb2.FetchResponse(data=data, total_bytes=total).SerializeToString()
    assert chunks.write_fetched(chunks.FetchedChunk(data, total)) == message
    found = chunks.read_fetched(message)
    assert (bytes(found.data), found.total_bytes) == (data, total)


@given(st.text(max_size=40), st.text(max_size=200), NUMBERS, DATA)
def test_what_is_sent_is_what_protobuf_writes_and_reads(
    lease: str, sha256: str, offset: int, data: bytes
) -> None:
    request = fleet_pb2.PutUpdateRequest(lease=lease, sha256=sha256, offset=offset, data=data)
    message = request.SerializeToString(deterministic=True)
    assert chunks.write_sent(chunks.SentChunk(data, lease, sha256, offset)) == message
    found = chunks.read_sent(message)
    assert (found.lease, found.sha256, found.offset) == (lease, sha256, offset)
    assert bytes(found.data) == data


def test_data_are_not_copied_when_they_are_read() -> None:
    message = chunks.write_fetched(chunks.FetchedChunk(bytes(1000), 1000))
    found = chunks.read_fetched(message).data
    assert isinstance(found, memoryview)
    assert found.obj is message


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_protobuf_reads_them_or_refused(message: bytes) -> None:
    try:
        expected = fleet_pb2.PutUpdateRequest.FromString(message)
    except (DecodeError, ValueError):
        return  # what is unknown to us may be read over
    try:
        found = chunks.read_sent(message)
    except WireError:
        return  # groups, which nobody sends
    assert (found.lease, found.sha256) == (expected.lease, expected.sha256)
    assert (found.offset, bytes(found.data)) == (expected.offset, expected.data)


@pytest.mark.parametrize("cut", [1, 3, 50])
def test_a_message_that_is_cut_is_refused(cut: int) -> None:
    message = chunks.write_sent(chunks.SentChunk(bytes(100), "lease", "0" * 64, 7))
    with pytest.raises(WireError):
        chunks.read_sent(message[:-cut])


@given(NUMBERS)
def test_fields_of_a_newer_program_are_passed_over(number: int) -> None:
    newer = b"\x0a\x02hi" + b"\x78" + b"\x05" + b"\x82\x01\x03abc" + b"\x7d" + bytes(4)
    found = chunks.read_fetched(newer + chunks.write_fetched(chunks.FetchedChunk(b"x", number)))
    assert (bytes(found.data), found.total_bytes) == (b"x", number)
