"""The blob store: whole or not at all, resumable, and deaf to names that are no digests."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reefleet import blobs
from reefleet.errors import (
    ChecksumMismatch,
    InputError,
    MissingFile,
    PayloadTooLarge,
    StoreError,
    StoreFull,
    WireError,
)

DATA = bytes(range(256)) * 10
DIGEST = blobs.sha256_hex(DATA)


@pytest.fixture
def store(tmp_path: Path) -> blobs.BlobStore:
    return blobs.BlobStore(tmp_path / "blobs")


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_a_digest_is_sha256_in_lower_case_hex() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert blobs.sha256_hex(b"abc") == expected


def test_a_stored_blob_is_found_by_its_digest(store: blobs.BlobStore) -> None:
    assert not store.has(DIGEST)
    assert store.put(DATA) == DIGEST
    assert store.has(DIGEST)
    assert store.size(DIGEST) == len(DATA)
    assert store.read(DIGEST) == DATA
    assert store.path(DIGEST).read_bytes() == DATA


def test_storing_leaves_nothing_but_the_blob(store: blobs.BlobStore) -> None:
    store.put(DATA)
    store.put(DATA)
    assert files(store.root) == [f"{DIGEST[:2]}/{DIGEST}"]


def test_a_file_is_stored_as_a_copy(store: blobs.BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(DATA)
    assert store.put_file(source) == DIGEST
    source.write_bytes(b"changed")
    assert store.read(DIGEST) == DATA
    assert files(store.root) == [f"{DIGEST[:2]}/{DIGEST}"]


def test_a_file_that_is_not_there_is_refused(store: blobs.BlobStore, tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"absent\.onnx"):
        store.put_file(tmp_path / "absent.onnx")


def test_pieces_of_any_size_cover_the_blob(store: blobs.BlobStore) -> None:
    store.put(DATA)
    for size in (1, 7, 1000, 10_000):
        found = [store.piece(DIGEST, at, size) for at in range(0, len(DATA), size)]
        assert b"".join(found) == DATA
    assert store.piece(DIGEST, len(DATA) + 5, 10) == b""


def test_a_piece_before_the_start_is_refused(store: blobs.BlobStore) -> None:
    store.put(DATA)
    with pytest.raises(WireError, match="cannot be read"):
        store.piece(DIGEST, -1, 10)


@pytest.mark.parametrize(
    "digest",
    ["", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1], DIGEST + "0", DIGEST + "\n", "g" * 64],
)
def test_text_that_is_no_digest_never_becomes_a_path(store: blobs.BlobStore, digest: str) -> None:
    calls = (
        lambda: store.path(digest),
        lambda: store.has(digest),
        lambda: store.read(digest),
        lambda: store.piece(digest, 0, 1),
        lambda: store.size(digest),
        lambda: store.delete(digest),
        lambda: store.partial_size("pi", digest),
        lambda: store.append("pi", digest, 0, b"a", 1),
        lambda: store.finish("pi", digest),
    )
    for call in calls:
        with pytest.raises(WireError, match="not a sha256"):
            call()


@pytest.mark.parametrize("owner", ["", ".", "..", "a/b", "../pi", "-x", "a\n", "x" * 129, "\0"])
def test_text_that_is_no_owner_never_becomes_a_path(store: blobs.BlobStore, owner: str) -> None:
    calls = (
        lambda: store.partial_size(owner, DIGEST),
        lambda: store.append(owner, DIGEST, 0, b"a", 1),
        lambda: store.finish(owner, DIGEST),
        lambda: store.drop_partials(owner),
    )
    for call in calls:
        with pytest.raises(InputError, match="cannot own a transfer"):
            call()


def test_a_missing_blob_is_refused(store: blobs.BlobStore) -> None:
    for call in (store.read, store.size, lambda d: store.piece(d, 0, 1)):
        with pytest.raises(MissingFile, match=DIGEST):
            call(DIGEST)
    with pytest.raises(MissingFile, match=DIGEST):
        store.finish("pi", DIGEST)


def test_a_blob_altered_on_disk_is_not_read(store: blobs.BlobStore) -> None:
    store.put(DATA)
    store.path(DIGEST).write_bytes(b"x" + DATA[1:])
    with pytest.raises(ChecksumMismatch, match="altered on disk"):
        store.read(DIGEST)


def test_a_blob_altered_after_it_was_read_is_not_read_again(store: blobs.BlobStore) -> None:
    store.put(DATA)
    assert store.read(DIGEST) == DATA
    store.path(DIGEST).write_bytes(DATA[:-1] + b"!")
    with pytest.raises(ChecksumMismatch, match="altered on disk"):
        store.checked(DIGEST)


def test_a_renewed_blob_that_was_altered_is_not_read(store: blobs.BlobStore) -> None:
    store.put(DATA)
    store.path(DIGEST).write_bytes(DATA[:-1] + b"!")
    assert store.renew(DIGEST)
    with pytest.raises(ChecksumMismatch):
        store.read(DIGEST)


def test_a_blob_that_is_set_aside_is_still_there(store: blobs.BlobStore) -> None:
    store.put(DATA)
    store.set_aside(DIGEST)
    store.set_aside("0" * 64)
    assert store.read(DIGEST) == DATA


def test_a_deleted_blob_is_gone_and_may_be_deleted_again(store: blobs.BlobStore) -> None:
    store.put(DATA)
    store.delete(DIGEST)
    store.delete(DIGEST)
    assert not store.has(DIGEST)


def test_a_transfer_becomes_a_blob_when_it_is_whole(store: blobs.BlobStore) -> None:
    assert store.partial_size("pi", DIGEST) == 0
    assert store.append("pi", DIGEST, 0, DATA[:1000], len(DATA)) == 1000
    assert store.partial_size("pi", DIGEST) == 1000
    assert not store.has(DIGEST)
    assert store.append("pi", DIGEST, 1000, DATA[1000:], len(DATA)) == len(DATA)
    store.finish("pi", DIGEST)
    assert store.read(DIGEST) == DATA
    assert store.partial_size("pi", DIGEST) == 0


def test_finishing_again_changes_nothing(store: blobs.BlobStore) -> None:
    store.append("pi", DIGEST, 0, DATA, len(DATA))
    store.finish("pi", DIGEST)
    store.finish("pi", DIGEST)
    store.append("zero", DIGEST, 0, DATA[:5], len(DATA))
    store.finish("zero", DIGEST)
    assert files(store.root) == [f"{DIGEST[:2]}/{DIGEST}"]


def test_a_transfer_goes_on_in_a_new_process(store: blobs.BlobStore) -> None:
    store.append("pi", DIGEST, 0, DATA[:700], len(DATA))
    again = blobs.BlobStore(store.root)
    offset = again.partial_size("pi", DIGEST)
    again.append("pi", DIGEST, offset, DATA[offset:], len(DATA))
    again.finish("pi", DIGEST)
    assert again.read(DIGEST) == DATA


def test_two_owners_do_not_share_a_transfer(store: blobs.BlobStore) -> None:
    store.append("pi", DIGEST, 0, DATA[:700], len(DATA))
    assert store.partial_size("jetson", DIGEST) == 0
    store.drop_partials("pi")
    store.drop_partials("pi")
    assert store.partial_size("pi", DIGEST) == 0


@pytest.mark.parametrize(("offset", "length"), [(0, 500), (100, 200), (0, 700), (300, 900)])
def test_a_repeated_or_overlapping_chunk_is_taken_once(
    store: blobs.BlobStore, offset: int, length: int
) -> None:
    store.append("pi", DIGEST, 0, DATA[:700], len(DATA))
    chunk = DATA[offset : offset + length]
    held = store.append("pi", DIGEST, offset, chunk, len(DATA))
    assert held == store.partial_size("pi", DIGEST) == max(700, offset + length)
    store.append("pi", DIGEST, held, DATA[held:], len(DATA))
    store.finish("pi", DIGEST)


@settings(deadline=None, max_examples=40)
@given(chunks=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=12))
def test_chunks_in_any_order_never_leave_wrong_bytes(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, int]]
) -> None:
    store = blobs.BlobStore(tmp_path_factory.mktemp("blobs"))
    data = DATA[:60]
    digest = blobs.sha256_hex(data)
    for offset, length in chunks:
        held = store.partial_size("pi", digest)
        try:
            store.append("pi", digest, offset, data[offset : offset + length], len(data))
        except WireError:
            assert offset > held
    held = store.partial_size("pi", digest)
    store.append("pi", digest, held, data[held:], len(data))
    store.finish("pi", digest)
    assert store.read(digest) == data


@pytest.mark.parametrize("offset", [-1, 701])
def test_a_chunk_that_leaves_a_gap_is_refused(store: blobs.BlobStore, offset: int) -> None:
    store.append("pi", DIGEST, 0, DATA[:700], len(DATA))
    with pytest.raises(WireError, match="does not follow the 700 bytes held"):
        store.append("pi", DIGEST, offset, b"abc", len(DATA))
    assert store.partial_size("pi", DIGEST) == 700


def test_a_chunk_beyond_the_announced_size_is_refused(store: blobs.BlobStore) -> None:
    with pytest.raises(PayloadTooLarge, match="byte 11 of a transfer of 10"):
        store.append("pi", DIGEST, 0, DATA[:11], 10)
    assert store.partial_size("pi", DIGEST) == 0


def test_a_repeat_with_other_bytes_is_refused_and_changes_nothing(store: blobs.BlobStore) -> None:
    store.append("pi", DIGEST, 0, DATA[:700], len(DATA))
    with pytest.raises(ChecksumMismatch, match="offset 600 differs"):
        store.append("pi", DIGEST, 600, DATA[600:699] + b"!" + DATA[700:800], len(DATA))
    store.append("pi", DIGEST, 700, DATA[700:], len(DATA))
    store.finish("pi", DIGEST)


def test_altered_bytes_are_refused_and_the_transfer_starts_over(store: blobs.BlobStore) -> None:
    store.append("pi", DIGEST, 0, DATA[:-1] + b"!", len(DATA))
    with pytest.raises(ChecksumMismatch, match=f"announced was {DIGEST}"):
        store.finish("pi", DIGEST)
    assert not store.has(DIGEST)
    assert store.partial_size("pi", DIGEST) == 0


def test_an_unfinished_transfer_is_refused(store: blobs.BlobStore) -> None:
    store.append("pi", DIGEST, 0, DATA[:-1], len(DATA))
    with pytest.raises(ChecksumMismatch):
        store.finish("pi", DIGEST)


def test_bytes_that_replace_a_lost_transfer_are_hashed_anew(store: blobs.BlobStore) -> None:
    store.append("pi", DIGEST, 0, DATA, len(DATA))
    (partial,) = store.partials()
    partial.unlink()
    store.append("pi", DIGEST, 0, DATA[:-1] + b"!", len(DATA))
    with pytest.raises(ChecksumMismatch):
        store.finish("pi", DIGEST)


def test_bytes_that_another_process_added_are_hashed_too(store: blobs.BlobStore) -> None:
    other = blobs.BlobStore(store.root)
    store.append("pi", DIGEST, 0, DATA[:500], len(DATA))
    other.append("pi", DIGEST, 500, DATA[500:700][::-1], len(DATA))
    store.append("pi", DIGEST, 700, DATA[700:], len(DATA))
    with pytest.raises(ChecksumMismatch):
        store.finish("pi", DIGEST)


def test_writing_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    blobs.write_atomic(path, b"first")
    blobs.write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert files(tmp_path) == ["new/state.json"]


def test_a_blob_appears_only_after_it_is_synced(
    store: blobs.BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[bool] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        whole.append(store.has(DIGEST))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    store.put(DATA)
    assert whole == [False, True]


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreError)],
)
def test_a_disk_that_refuses_leaves_no_trace(
    store: blobs.BlobStore, monkeypatch: pytest.MonkeyPatch, code: int, error: type[StoreError]
) -> None:
    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    store.put(b"earlier")
    store.append("pi", DIGEST, 0, DATA, len(DATA))
    before = files(store.root)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(error):
            store.put(DATA)
        with pytest.raises(error):
            store.finish("pi", DIGEST)
    assert files(store.root) == before
    store.finish("pi", DIGEST)
    assert store.read(DIGEST) == DATA


def test_blobs_may_not_be_read_by_others(store: blobs.BlobStore) -> None:
    store.put(DATA)
    assert store.path(DIGEST).stat().st_mode & 0o077 == 0
