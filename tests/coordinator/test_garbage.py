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
from reefleet.errors import Rejected, StoreError

MakeRun = Callable[..., Any]
GRACE_S = 60.0
DEVICES = "abc"

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(DEVICES)),
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
            announced = store.upload(work.lease)
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
