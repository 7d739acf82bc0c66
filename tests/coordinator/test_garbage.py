"""Nothing that is needed is ever deleted, and what is not needed goes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator import records as r
from coordinator.config import RoundPolicy, StoragePolicy
from coordinator.garbage import TRASH, Garbage
from reefleet.blobs import sha256_hex
from reefleet.errors import Rejected, StoreError, WireError

MakeRun = Callable[..., Any]
GRACE_S = 60.0
DEVICES = "abc"

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(DEVICES)),
        st.tuples(st.just("refused"), st.sampled_from(DEVICES)),
        st.tuples(st.just("half"), st.sampled_from(DEVICES)),
        st.tuples(st.just("announce"), st.sampled_from(DEVICES)),
        st.tuples(st.just("replan"), st.sampled_from(DEVICES)),
        st.tuples(st.just("revoke"), st.sampled_from(DEVICES)),
        st.tuples(st.just("advance"), st.just("")),
        st.tuples(st.just("collect"), st.just("")),
        st.tuples(st.just("restart"), st.just("")),
    ),
    max_size=25,
)


def collector(run: Any, keep: int = 1) -> Any:
    policy = StoragePolicy(keep_versions=keep, grace_s=GRACE_S)
    return Garbage(run.store, run.blobs, policy, run.time.clock())


def needed_by_hand(run: Any) -> set[str]:
    """What a run stands on, told from its records one at a time."""
    store = run.store
    needed = set()
    latest = store.latest_version()
    needed.add(latest.artifact.sha256)
    current = store.current_round()
    if current:
        needed.add(store.version(current.base_version).artifact.sha256)
        needed |= {update.artifact.sha256 for update in store.updates(current.number)}
    for device in store.devices():
        work = store.open_assignment(device.device_id)
        if work:
            needed |= {work.manifest.sha256, work.weights.sha256}
            announced = store.upload_of(work.lease).announced
            if announced and run.blobs.has(announced.sha256):
                needed.add(announced.sha256)
        bundle = store.bundle(device.bundle_key)
        if bundle:
            needed.add(bundle.manifest.sha256)
            needed |= {file.sha256 for file in bundle.files}
    return needed


def replay(run: Any, steps: list[tuple[str, str]], collects: bool) -> str:
    """Do the steps, then finish the run; the digest of the last model."""
    garbage = collector(run)
    for number, (step, name) in enumerate(steps):
        if step == "restart":
            run.restart()
            for device in DEVICES:
                run.presence.note(device)
            garbage = collector(run)
        elif step == "collect":
            if collects:
                before = needed_by_hand(run)
                garbage.collect()
                run.time.ticks += GRACE_S
                garbage.collect()
                run.time.ticks -= GRACE_S
                assert all(run.blobs.has(digest) for digest in before | needed_by_hand(run))
        else:
            act(run, step, name, seed=number)
    for name in DEVICES:
        run.store.revoke(name, run.time.now)
    run.rounds.advance()
    latest = run.store.latest_version()
    run.versions.load(latest.number)
    return str(latest.artifact.sha256)


def act(run: Any, step: str, name: str, seed: int) -> None:
    if step == "advance":
        run.rounds.advance()
        return
    if step == "revoke":
        if seed % 5 == 0:  # rarely, or nothing else happens
            run.store.revoke(name, run.time.now)
        return
    if step == "replan":
        device = run.store.device(name)
        plan = device.plan
        depth = 3 - plan.exit_depth
        change = type(plan)(depth, 8, 4, 1, 1, "float32", ("again",))
        manifest = f"manifest of {depth} again".encode()
        key = sha256_hex(manifest + b"key")
        artifact = r.Artifact(run.blobs.put(manifest), len(manifest))
        files = (r.Artifact(run.blobs.put(b"graph"), 5),)
        run.store.set_plan(name, {"board": "test"}, change, "again", key)
        run.store.add_bundle(r.Bundle(key, artifact, b"signature", files))
        return
    work = run.store.open_assignment(name)
    if work is None or work.kind != r.FEDERATE:
        return
    if step == "push":
        try:
            run.push(name, seed=seed)
        except Rejected:
            return
    elif step == "refused":
        with pytest.raises(WireError):
            run.updates.commit(name, work.lease, run.upload(work, b"no tensors"), 10, {})
    elif step == "half":
        data = run.coded(work, seed)
        announced = r.Artifact(sha256_hex(data), len(data))
        run.updates.open(name, work.lease, announced)
        run.updates.put(name, work.lease, announced.sha256, 0, data[: len(data) // 2])
    else:
        run.updates.open(name, work.lease, r.Artifact(sha256_hex(b"later"), 5))


@pytest.mark.slow
@given(steps=STEPS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_run_with_collections_ends_in_the_same_model(steps: list[tuple[str, str]]) -> None:
    from tests.coordinator.conftest import Run, a_plan

    ends = []
    for collects in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            policy = RoundPolicy(min_devices=1, quorum=1.0, total=50)
            run = Run(Path(folder), policy)
            for name, depth in zip(DEVICES, (2, 1, 2), strict=True):
                run.add_device(name, a_plan(depth))
            ends.append(replay(run, steps, collects))
            run.store.close()
    assert ends[0] == ends[1]


class Interrupted:
    """A store that is written to while a collection reads it: `acts` come one at each read."""

    def __init__(self, run: Any, acts: list[tuple[str, str]]) -> None:
        self.run = run
        self.acts = list(acts)
        self.seed = 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run.store, name)

    def _next(self) -> None:
        if self.acts:
            self.seed += 1
            act(self.run, *self.acts.pop(0), seed=self.seed)

    def needed_blobs(self) -> set[str]:
        self._next()
        found: set[str] = self.run.store.needed_blobs()
        self._next()
        return found


DURING = st.lists(
    st.tuples(
        st.sampled_from(["push", "refused", "half", "announce", "replan"]),
        st.sampled_from(DEVICES),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@given(before=STEPS, during=DURING)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_arrives_while_a_collection_looks_is_never_deleted(
    before: list[tuple[str, str]], during: list[tuple[str, str]]
) -> None:
    from tests.coordinator.conftest import Run, a_plan

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), RoundPolicy(min_devices=1, quorum=1.0, total=50))
        for name, depth in zip(DEVICES, (2, 1, 2), strict=True):
            run.add_device(name, a_plan(depth))
        for number, (step, name) in enumerate(before):
            if step not in {"restart", "collect"}:
                act(run, step, name, seed=number)
        garbage = collector(run)
        garbage._store = Interrupted(run, during)
        while garbage._store.acts:
            garbage.collect()
            run.time.ticks += GRACE_S  # what was not needed before is over now
            garbage.collect()
            assert all(run.blobs.has(digest) for digest in needed_by_hand(run))
        run.store.close()


def test_a_refused_update_and_half_of_one_go_once_their_work_is_over(a_run: MakeRun) -> None:
    run = a_run(2, 2, total=2)
    run.rounds.advance()
    work = run.work("a")
    refused = run.upload(work, b"no tensors")
    with pytest.raises(WireError):
        run.updates.commit("a", work.lease, refused, 10, {})
    half = run.work("b")
    data = run.coded(half, 1)
    announced = r.Artifact(sha256_hex(data), len(data))
    run.updates.open("b", half.lease, announced)
    run.updates.put("b", half.lease, announced.sha256, 0, data[:100])
    garbage = collector(run)
    for _ in range(2):
        garbage.collect()
        run.time.pass_s(GRACE_S)
    assert not run.blobs.has(refused.sha256)
    assert run.blobs.partial_size(half.lease, announced.sha256) == 100  # it may go on
    run.store.revoke("b", run.time.now)
    for _ in range(2):
        garbage.collect()
        run.time.pass_s(GRACE_S)
    assert run.blobs.partial_size(half.lease, announced.sha256) == 0


def test_old_versions_updates_and_cuts_go_and_the_newest_stay(a_run: MakeRun) -> None:
    run = a_run(2, 1, total=3)
    garbage = collector(run)
    for seed in range(3):
        run.rounds.advance()
        run.push("a", seed=2 * seed)
        run.push("b", seed=2 * seed + 1)
    run.rounds.advance()
    assert garbage.collect() == 0
    run.time.pass_s(GRACE_S)
    assert garbage.collect() > 0
    kept = {path.name for path in run.blobs.files()}
    assert kept == run.store.needed_blobs()
    assert not any(update.artifact.sha256 in kept for update in run.store.updates())
    assert [v.is_retired for v in run.store.last_versions(9)] == [True, True, True, False]
    with pytest.raises(StoreError, match="retired"):
        run.versions.load(0)
    assert garbage.collect() == 0


def test_a_blob_that_is_stored_again_stays(a_run: MakeRun) -> None:
    run = a_run(2)
    digest = run.blobs.put(b"nobody names me")
    garbage = collector(run)
    garbage.collect()
    run.time.pass_s(GRACE_S - 1)
    run.blobs.put(b"nobody names me")
    run.time.pass_s(1)
    garbage.collect()
    assert run.blobs.has(digest)
    run.time.pass_s(GRACE_S)
    garbage.collect()
    assert not run.blobs.has(digest)


def test_a_jump_of_the_date_deletes_nothing(a_run: MakeRun) -> None:
    run = a_run(2)
    digest = run.blobs.put(b"its row comes next")
    garbage = collector(run)
    garbage.collect()
    run.time.now += 10 * 365 * 86400.0
    garbage.collect()
    assert run.blobs.has(digest)


def test_what_a_killed_collection_left_is_put_back(a_run: MakeRun) -> None:
    run = a_run(2)
    (run.blobs.root / TRASH).mkdir()
    digest = run.store.latest_version().artifact.sha256
    run.blobs.path(digest).rename(run.blobs.root / TRASH / digest)
    collector(run).collect()
    assert run.blobs.read(digest)


def test_a_device_may_no_longer_fetch_what_is_gone(a_run: MakeRun) -> None:
    run = a_run(2, total=2)
    run.rounds.advance()
    weights = run.work("a").weights.sha256
    run.push("a")
    run.rounds.advance()
    assert run.store.may_fetch("a", weights)
    collector(run).collect()
    assert not run.store.may_fetch("a", weights)
