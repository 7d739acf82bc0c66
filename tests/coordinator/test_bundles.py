"""Compiled bundles: built apart, checked, cached across runs, signed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator import records as r
from coordinator.bundles import Bundles, Workshop, compiler_version
from coordinator.store import Store
from reefleet.blobs import BlobStore
from reefleet.model import ModelContract
from reefleet.plan import SubmodelPlan
from reefleet.rpc import identity
from reefleet.wire.manifest_json import task_from_bytes

MakeBench = Callable[..., Any]

PLAN = SubmodelPlan(2, 4, 8, 1, 1, "int8", ("because",))
WAIT_S = 60


class Bench:
    """Bundles over one cache, with the event their maker fires."""

    def __init__(self, root: Path, contract: ModelContract, command: Sequence[str]) -> None:
        root.mkdir(exist_ok=True)
        self.key = identity.new_manifest_key()
        self.store = Store(root / "state.db")
        self.blobs = BlobStore(root / "blobs")
        self.changed = threading.Event()
        workshop = Workshop(root.parent / "cache", root / "logs", 2, WAIT_S, command)
        self.bundles = Bundles(
            self.store, self.blobs, contract, self.key, workshop, self.changed.set
        )

    def make(self, plan: SubmodelPlan = PLAN) -> Any:
        key = self.bundles.want(plan)
        assert self.changed.wait(WAIT_S)
        return self.store.bundle(key)

    def close(self) -> None:
        self.bundles.close()
        self.store.close()


@pytest.fixture
def bench(tmp_path: Path, contract: ModelContract, compiler: tuple[str, ...]) -> Any:
    made = []

    def build(name: str = "run", *flags: str) -> Any:
        made.append(Bench(tmp_path / name, contract, [*compiler, *flags]))
        return made[-1]

    yield build
    for found in made:
        found.close()


def test_every_file_of_a_bundle_becomes_a_blob_of_its_digest(bench: MakeBench) -> None:
    b = bench()
    bundle = b.make()
    manifest = task_from_bytes(b.blobs.read(bundle.manifest.sha256))
    assert {f.sha256 for f in bundle.files} == {f.sha256 for f in manifest.files.values()}
    for file in bundle.files:
        assert len(b.blobs.read(file.sha256)) == file.size_bytes


def test_the_manifest_is_signed_with_the_fleets_key(bench: MakeBench) -> None:
    b = bench()
    bundle = b.make()
    data = b.blobs.read(bundle.manifest.sha256)
    identity.verify(identity.manifest_public_key(b.key), data, bundle.signature)


def test_a_bundle_is_compiled_once_for_all_runs_over_one_cache(
    bench: MakeBench, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    first = bench("one", "--count", str(count))
    again = bench("two", "--count", str(count))
    assert first.make().manifest == again.make().manifest
    assert count.read_text() == "x"


def test_plans_that_differ_in_their_explanation_only_share_a_bundle(bench: MakeBench) -> None:
    b = bench()
    assert b.bundles.key(PLAN) == b.bundles.key(replace(PLAN, why=()))
    assert b.bundles.key(PLAN) != b.bundles.key(replace(PLAN, bits=5))


def test_a_damaged_cache_is_compiled_anew(bench: MakeBench, tmp_path: Path) -> None:
    count = tmp_path / "count"
    key = bench("one", "--count", str(count)).make().key
    (tmp_path / "cache" / key / "train.onnx").write_bytes(b"damaged")
    b = bench("two", "--count", str(count))
    assert b.make() is not None
    assert count.read_text() == "xx"


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--fail", "this plan cannot be compiled"),
        ("--wrong-digest", "not what its manifest says"),
        ("--other-plan", "another model or plan"),
    ],
)
def test_a_failure_is_recorded_on_the_devices_that_wait(
    bench: MakeBench, flag: str, reason: str
) -> None:
    b = bench("run", flag)
    token = r.Token("0" * 64, "a", 1.0)
    b.store.add_token(token)
    b.store.enroll(r.Device("a", "1", "0" * 64, 0.0), r.Enrollment(token.sha256, "", "a", b"", 0.0))
    b.store.set_plan("a", {}, PLAN, "test", b.bundles.key(PLAN))
    assert b.make() is None
    assert reason in b.store.device("a").failure
    assert b.store.ready() == []


def test_the_compilers_stderr_is_kept(bench: MakeBench, tmp_path: Path) -> None:
    b = bench("run", "--fail")
    b.make()
    (log,) = (tmp_path / "run" / "logs").iterdir()
    assert "some progress" in log.read_text()


def test_closing_ends_a_compiler_that_runs_and_blames_nobody(
    tmp_path: Path, contract: ModelContract
) -> None:
    b = Bench(tmp_path / "slow", contract, ["sleep", "1000"])
    token = r.Token("0" * 64, "a", 1.0)
    b.store.add_token(token)
    b.store.enroll(r.Device("a", "1", "0" * 64, 0.0), r.Enrollment(token.sha256, "", "a", b"", 0.0))
    b.store.set_plan("a", {}, PLAN, "test", b.bundles.want(PLAN))
    b.bundles.close()
    assert b.store.device("a").failure == ""
    b.store.close()


def test_leftovers_of_a_killed_compiler_go_when_they_are_too_old_to_be_in_use(
    bench: MakeBench, tmp_path: Path
) -> None:
    old, fresh = tmp_path / "cache" / "tmp-old", tmp_path / "cache" / "tmp-fresh"
    old.mkdir(parents=True)
    fresh.mkdir()
    os.utime(old, (0, 0))
    bench()
    assert (old.exists(), fresh.exists()) == (False, True)


def test_the_compilers_version_knows_its_command_and_its_sources() -> None:
    assert compiler_version(("x", "a")) != compiler_version(("x", "b"))
    assert compiler_version() == compiler_version()
