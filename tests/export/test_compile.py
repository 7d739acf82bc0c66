"""Task bundles: complete, deterministic, and written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from export.bundle import write_bundle
from export.compile import compile_task
from reefleet.blobs import sha256_hex
from reefleet.errors import ConfigError, InputError
from reefleet.model import ModelContract, ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan
from reefleet.wire.manifest_json import task_from_bytes

CONTRACT = ModelContract(
    ModelSpec(
        image_size=4, patch_size=2, channels=1, width=16, heads=2, depth=2, classes=2, exits=(1, 2)
    ),
    Preprocessing(size=4, channels=1, mean=0.5, std=0.5),
    ("no", "yes"),
)
PLAN = SubmodelPlan(2, 2, 4, 1, 1, "int8")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compile") / "bundle"
    compile_task(CONTRACT, PLAN, folder)
    return folder


def test_every_file_is_the_one_the_manifest_names(bundle: Path) -> None:
    manifest = task_from_bytes((bundle / "manifest.json").read_bytes())
    found = {path.name for path in bundle.iterdir()} - {"manifest.json"}
    assert found == set(manifest.files)
    for name, entry in manifest.files.items():
        data = (bundle / name).read_bytes()
        assert (sha256_hex(data), len(data)) == (entry.sha256, entry.size_bytes)


def test_manifest_holds_the_contract_and_the_plan(bundle: Path) -> None:
    manifest = task_from_bytes((bundle / "manifest.json").read_bytes())
    assert ModelContract(manifest.model, manifest.preprocessing, manifest.labels) == CONTRACT
    assert manifest.plan == PLAN
    assert set(manifest.programs) == {"federate", "personalize"}
    assert [stage.exit_depth for stage in manifest.stages] == [1, 2]


def test_init_file_holds_the_state_that_names_it(bundle: Path) -> None:
    manifest = task_from_bytes((bundle / "manifest.json").read_bytes())
    named = {
        t.name: t.shape for p in manifest.programs.values() for t in p.state if t.init == "file"
    }
    found = load_file(bundle / "init.safetensors")
    assert {name: value.shape for name, value in found.items()} == named


def test_the_same_plan_gives_the_same_digest(bundle: Path, tmp_path: Path) -> None:
    again = compile_task(CONTRACT, PLAN, tmp_path / "again")
    assert again == sha256_hex((bundle / "manifest.json").read_bytes())


def test_a_depth_without_an_exit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="depth 3"):
        compile_task(CONTRACT, SubmodelPlan(3, 2, 4, 1, 1, "int8"), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_in_it_is_left_alone(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    manifest = task_from_bytes((bundle / "manifest.json").read_bytes())
    with pytest.raises(InputError, match="not a bundle"):
        write_bundle(tmp_path / "mine", manifest, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_older_bundle_is_replaced_whole(bundle: Path, tmp_path: Path) -> None:
    manifest = task_from_bytes((bundle / "manifest.json").read_bytes())
    write_bundle(tmp_path / "b", manifest, {"old.onnx": b"old"})
    write_bundle(tmp_path / "b", manifest, {"new.onnx": b"new"})
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"manifest.json", "new.onnx"}
    assert json.loads((tmp_path / "b" / "manifest.json").read_bytes())["kind"] == "task"
