"""Uploads: what is acknowledged is durable, what is refused changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from coordinator import records as r
from reefleet.blobs import sha256_hex
from reefleet.errors import (
    ChecksumMismatch,
    NonFiniteValues,
    PayloadTooLarge,
    Rejected,
    TensorMismatch,
    TruncatedPayload,
    WireError,
)
from reefleet.wire.codecs import encode, encode_update
from reefleet.wire.tensors import Float32Tensor, pack_tensors

MakeRun = Callable[..., Any]


def packed(values: Mapping[str, Any]) -> Any:
    return pack_tensors({name: Float32Tensor(value) for name, value in values.items()})


@pytest.fixture
def run(a_run: MakeRun) -> Any:
    run = a_run(2, 1)
    run.rounds.advance()
    return run


def commit(run: Any, data: bytes | None, samples: int = 10, device: str = "a") -> Any:
    work = run.work(device)
    return run.updates.commit(device, work.lease, run.upload(work, data), samples, {})


def test_a_committed_update_is_durable_and_ends_the_work(run: Any, delta: Any) -> None:
    work = run.work("a")
    data = packed(delta(2, 0))
    assert commit(run, data) is False
    assert run.store.updates(1)[0].artifact.sha256 == sha256_hex(data)
    assert run.blobs.read(sha256_hex(data)) == data
    assert run.store.assignment(work.lease).state == r.COMMITTED


def test_committing_again_answers_the_same_and_counts_once(run: Any, delta: Any) -> None:
    work = run.work("a")
    data = packed(delta(2, 0))
    announced = run.upload(work, data)
    assert run.updates.commit("a", work.lease, announced, 10, {}) is False
    assert run.updates.open("a", work.lease, announced) == len(data)
    assert run.updates.put("a", work.lease, announced.sha256, 0, data) == len(data)
    assert run.updates.commit("a", work.lease, announced, 10, {}) is True
    assert len(run.store.updates(1)) == 1


def test_a_repeat_after_the_round_has_closed_is_still_a_repeat(run: Any, delta: Any) -> None:
    work = run.work("a")
    announced = run.upload(work, packed(delta(2, 0)))
    run.updates.commit("a", work.lease, announced, 10, {})
    run.push("b")
    run.rounds.advance()
    assert run.store.rounds_closed() == 1
    assert run.updates.commit("a", work.lease, announced, 10, {}) is True


def test_a_second_different_update_is_refused(run: Any, delta: Any) -> None:
    work = run.work("a")
    commit(run, packed(delta(2, 0)))
    other = packed(delta(2, 1))
    with pytest.raises(Rejected, match="another update"):
        run.updates.open("a", work.lease, r.Artifact(sha256_hex(other), len(other)))
    assert len(run.store.updates(1)) == 1


def test_a_late_update_is_refused_with_the_reason_and_counted(a_run: MakeRun, delta: Any) -> None:
    run = a_run(2, 2, quorum=0.5)
    run.rounds.advance()
    late = run.work("b")
    announced = run.upload(late, packed(delta(2, 1)))
    run.push("a")
    run.rounds.advance()
    with pytest.raises(Rejected, match="round 1 closed without it"):
        run.updates.commit("b", late.lease, announced, 10, {})
    assert [(x.device_id, x.round) for x in run.store.refusals()] == [("b", 1)]
    assert [x.device_id for x in run.store.updates()] == ["a"]


def test_an_upload_goes_on_at_its_offset_after_a_restart(run: Any, delta: Any) -> None:
    work = run.work("a")
    data = packed(delta(2, 0))
    announced = r.Artifact(sha256_hex(data), len(data))
    assert run.updates.open("a", work.lease, announced) == 0
    run.updates.put("a", work.lease, announced.sha256, 0, data[:1000])
    run.restart()
    assert run.updates.open("a", work.lease, announced) == 1000
    run.updates.put("a", work.lease, announced.sha256, 1000, data[1000:])
    assert run.updates.commit("a", work.lease, announced, 10, {}) is False


def test_a_crash_between_blob_and_transaction_leaves_the_update_to_be_committed(
    run: Any, delta: Any
) -> None:
    work = run.work("a")
    data = packed(delta(2, 0))
    announced = run.upload(work, data)
    run.blobs.finish(work.lease, announced.sha256)
    run.restart()
    assert run.updates.open("a", work.lease, announced) == len(data)
    assert run.updates.commit("a", work.lease, announced, 10, {}) is False


def changed(values: Mapping[str, Any], name: str, value: Any) -> Any:
    return {**values, name: np.asarray(value, np.float32)}


def bad_content(delta: Any) -> Any:
    good = delta(2, 0)
    missing = {name: value for name, value in good.items() if name != "head.bias"}
    return {
        "NaN": (packed(changed(good, "head.bias", [0, np.nan, 0])), NonFiniteValues, "head.bias"),
        "infinity": (packed(changed(good, "head.bias", [0, np.inf, 0])), NonFiniteValues, "head"),
        "wrong shape": (packed(changed(good, "head.bias", [0, 0])), TensorMismatch, "head.bias"),
        "unknown": (packed(changed(good, "extra", [0])), TensorMismatch, "'extra' is unknown"),
        "missing": (packed(missing), TensorMismatch, "'head.bias' is missing"),
        "truncated": (packed(good)[:-5], WireError, "."),
        "noise": (b"\x07" * 500, WireError, "."),
        "norm": (packed({n: v * np.float32(1e6) for n, v in good.items()}), Rejected, "norm"),
    }


@pytest.mark.parametrize(
    "case",
    ["NaN", "infinity", "wrong shape", "unknown", "missing", "truncated", "noise", "norm"],
)
def test_bad_content_is_refused_and_ends_that_devices_work_only(
    run: Any, delta: Any, case: str
) -> None:
    data, error, words = bad_content(delta)[case]
    work = run.work("a")
    with pytest.raises(error, match=words):
        commit(run, data)
    assert run.store.updates() == []
    (refusal,) = run.store.refusals()
    assert (refusal.device_id, refusal.sha256) == ("a", sha256_hex(data))
    assert run.store.assignment(work.lease).state == r.REFUSED
    with pytest.raises(Rejected, match="over for this device"):
        run.updates.open("a", work.lease, r.Artifact(sha256_hex(data), len(data)))
    run.push("b")
    run.rounds.advance()
    assert run.store.rounds()[0].reason == "complete"
    assert len(run.store.updates(1)) == 1


def test_a_deeper_update_than_the_device_holds_is_refused(run: Any, delta: Any) -> None:
    with pytest.raises(TensorMismatch, match="blocks"):
        commit(run, packed(delta(2, 0)), device="b")


@pytest.mark.parametrize("samples", [0, 10_000_000])
def test_an_impossible_number_of_samples_is_refused(run: Any, delta: Any, samples: int) -> None:
    with pytest.raises(Rejected, match="samples"):
        commit(run, packed(delta(2, 0)), samples=samples)
    assert run.store.updates() == []


def test_altered_bytes_are_refused_and_the_upload_may_start_over(run: Any, delta: Any) -> None:
    work = run.work("a")
    data = packed(delta(2, 0))
    announced = r.Artifact(sha256_hex(data), len(data))
    run.updates.open("a", work.lease, announced)
    altered = data[:100] + bytes([data[100] ^ 1]) + data[101:]
    run.updates.put("a", work.lease, announced.sha256, 0, altered)
    with pytest.raises(ChecksumMismatch):
        run.updates.commit("a", work.lease, announced, 10, {})
    assert run.store.updates() == []
    assert len(run.store.refusals()) == 1
    assert run.updates.open("a", work.lease, announced) == 0
    assert commit(run, data) is False


def test_committing_before_all_bytes_are_there_is_refused_and_changes_nothing(
    run: Any, delta: Any
) -> None:
    work = run.work("a")
    data = packed(delta(2, 0))
    announced = r.Artifact(sha256_hex(data), len(data))
    run.updates.open("a", work.lease, announced)
    run.updates.put("a", work.lease, announced.sha256, 0, data[:-1])
    with pytest.raises(TruncatedPayload):
        run.updates.commit("a", work.lease, announced, 10, {})
    assert run.updates.open("a", work.lease, announced) == len(data) - 1


def test_an_oversized_announcement_is_refused_before_a_byte_is_taken(run: Any) -> None:
    work = run.work("a")
    with pytest.raises(PayloadTooLarge):
        run.updates.open("a", work.lease, r.Artifact("0" * 64, 1 << 30))
    assert run.store.upload_of(work.lease).announced is None
    assert run.work("a") == work


def test_no_more_bytes_are_taken_than_were_announced(run: Any) -> None:
    work = run.work("a")
    run.updates.open("a", work.lease, r.Artifact("0" * 64, 10))
    with pytest.raises(PayloadTooLarge):
        run.updates.put("a", work.lease, "0" * 64, 0, b"x" * 11)


def test_a_chunk_over_the_bound_is_refused(run: Any) -> None:
    work = run.work("a")
    with pytest.raises(PayloadTooLarge):
        run.updates.put("a", work.lease, "0" * 64, 0, b"x" * ((1 << 20) + 1))


def test_a_chunk_of_an_upload_nobody_announced_is_refused(run: Any) -> None:
    with pytest.raises(Rejected, match="not announced"):
        run.updates.put("a", run.work("a").lease, "0" * 64, 0, b"x")


def test_announcing_another_upload_forgets_the_bytes_of_the_first(run: Any) -> None:
    work = run.work("a")
    run.updates.open("a", work.lease, r.Artifact("0" * 64, 10))
    run.updates.put("a", work.lease, "0" * 64, 0, b"x")
    run.updates.open("a", work.lease, r.Artifact("1" * 64, 10))
    assert run.blobs.partial_size(work.lease, "0" * 64) == 0


def test_the_lease_of_another_device_is_refused(run: Any) -> None:
    lease = run.work("b").lease
    with pytest.raises(Rejected, match="not federated work of this device"):
        run.updates.open("a", lease, r.Artifact("0" * 64, 10))


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_what_is_no_digest_is_refused(run: Any, digest: str) -> None:
    with pytest.raises(WireError):
        run.updates.open("a", run.work("a").lease, r.Artifact(digest, 10))


@pytest.mark.parametrize("codec", ["float32", "float16", "int8", "codebook4", "codebook2"])
def test_every_upload_codec_is_taken(run: Any, delta: Any, codec: str) -> None:
    data, _ = encode_update(delta(2, 0), codec, {})
    assert encode(delta(2, 0), codec).keys() == delta(2, 0).keys()
    assert commit(run, data) is False


def test_refusals_of_one_device_in_one_round_are_bounded(run: Any) -> None:
    for number in range(30):
        refusal = r.Refusal(1, "a", f"{number:064d}", "made up", 0.0)
        run.store.refuse(refusal, None)
    assert len(run.store.refusals()) == 20
