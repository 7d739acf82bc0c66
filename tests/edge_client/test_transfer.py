from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.task import Artifact
from edge_client.transfer import OWNER, download, in_memory, upload
from reefleet.blobs import BlobStore, sha256_hex
from reefleet.errors import ChecksumMismatch, PayloadTooLarge, TruncatedPayload, WireError
from reefleet.rpc.limits import CHUNK_BYTES

DATA = bytes(range(256)) * (5 * CHUNK_BYTES // 512)  # two and a half chunks
ARTIFACT = Artifact(sha256_hex(DATA), len(DATA))


def test_a_file_arrives_in_bounded_chunks(kit: SimpleNamespace, tmp_path: Path) -> None:
    source, store = kit.FakeCoordinator({ARTIFACT.sha256: DATA}), BlobStore(tmp_path)
    download(source, store, ARTIFACT, len(DATA))
    assert store.read(ARTIFACT.sha256) == DATA
    assert [offset for _, offset in source.fetched] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]


def test_a_cut_download_goes_on_at_its_offset(kit: SimpleNamespace, tmp_path: Path) -> None:
    source = kit.FakeCoordinator({ARTIFACT.sha256: DATA}, cut_after=2)
    with pytest.raises(ConnectionResetError):
        download(source, BlobStore(tmp_path), ARTIFACT, len(DATA))
    source.fetched.clear()
    download(source, BlobStore(tmp_path), ARTIFACT, len(DATA))  # as a new process would
    assert source.fetched == [(ARTIFACT.sha256, 2 * CHUNK_BYTES)]
    assert source.bytes_down == len(DATA)


def test_what_is_there_is_not_sent_again(kit: SimpleNamespace, tmp_path: Path) -> None:
    source, store = kit.FakeCoordinator({}), BlobStore(tmp_path)
    store.put(DATA)
    download(source, store, ARTIFACT, len(DATA))
    assert source.fetched == []


def test_an_altered_chunk_drops_the_partial(kit: SimpleNamespace, tmp_path: Path) -> None:
    altered = DATA[:100] + b"\0" + DATA[101:]
    source, store = kit.FakeCoordinator({ARTIFACT.sha256: altered}), BlobStore(tmp_path)
    with pytest.raises(ChecksumMismatch):
        download(source, store, ARTIFACT, len(DATA))
    assert not store.has(ARTIFACT.sha256)
    assert store.partial_size(OWNER, ARTIFACT.sha256) == 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((b"", len(DATA)), TruncatedPayload),
        ((b"x", len(DATA) + 1), TruncatedPayload),
        ((b"x" * (len(DATA) + 1), len(DATA)), PayloadTooLarge),
        ((b"x", len(DATA)), TruncatedPayload),
    ],
)
def test_a_chunk_that_is_not_what_was_asked_for_is_refused(
    tmp_path: Path, answer: tuple[bytes, int], error: type[Exception]
) -> None:
    source = SimpleNamespace(fetch=lambda *_: iter([answer]))
    with pytest.raises(error):
        download(source, BlobStore(tmp_path), ARTIFACT, len(DATA))


def test_an_empty_file_can_be_fetched(kit: SimpleNamespace, tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    download(kit.FakeCoordinator({}), store, Artifact(sha256_hex(b""), 0), 10)
    assert store.read(sha256_hex(b"")) == b""


def test_an_upload_sends_only_what_the_coordinator_lacks(kit: SimpleNamespace) -> None:
    sink = kit.FakeCoordinator({}, held=DATA[:CHUNK_BYTES])
    upload(sink, "lease", ARTIFACT, in_memory(DATA))
    assert sink.held == DATA
    assert sink.bytes_up == len(DATA) - CHUNK_BYTES


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 250), st.integers(0, 250))
def test_parts_in_memory_read_as_one_file(parts: list[bytes], offset: int, size: int) -> None:
    assert bytes(in_memory(*parts)(offset, size)) == b"".join(parts)[offset : offset + size]


@pytest.mark.parametrize("offset", [-1, len(DATA) + 1])
def test_an_offset_outside_the_update_is_refused(offset: int) -> None:
    sink = SimpleNamespace(open_update=lambda *_: 0, put_update=lambda *_: offset)
    with pytest.raises(WireError):
        upload(sink, "lease", ARTIFACT, in_memory(DATA))


def test_an_upload_that_makes_no_progress_ends() -> None:
    sink = SimpleNamespace(open_update=lambda *_: 5, put_update=lambda *_: 5)
    with pytest.raises(WireError):
        upload(sink, "lease", ARTIFACT, in_memory(DATA))
