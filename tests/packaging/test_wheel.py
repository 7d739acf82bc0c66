"""The wheel is built from a copy of the tree, so that nothing is left beside the sources."""

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"reefleet", "devices", "coordinator", "edge_client", "export"}
HEAVY = {"torch", "onnx", "sqlalchemy", "scipy", "scikit-learn", "matplotlib"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools here is older than what the build asks for")
    tree = tmp_path_factory.mktemp("tree")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = "import setuptools.build_meta as backend; print(backend.build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(tree / "dist" / done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def required_by(metadata: Message, extra: str) -> set[str]:
    found = set()
    for requirement in metadata.get_all("Requires-Dist", []):
        name, _, marker = requirement.partition(";")
        if "extra" not in marker or f"extra == '{extra}'" in marker.replace('"', "'"):
            found.add(name.strip().split(">")[0].split("[")[0].strip().lower())
    return found


def test_the_wheel_holds_exactly_our_import_packages(wheel: zipfile.ZipFile) -> None:
    entries = {name.split("/")[0] for name in wheel.namelist()}
    assert {entry for entry in entries if not entry.endswith(".dist-info")} == PACKAGES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_each_package_says_that_it_is_typed(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_board_catalog_travels_with_the_wheel(wheel: zipfile.ZipFile) -> None:
    shipped = {n for n in wheel.namelist() if n.startswith("devices/boards/")}
    present = {f"devices/boards/{path.name}" for path in (ROOT / "devices/boards").glob("*.toml")}
    assert shipped == present
    assert shipped


def test_generated_code_travels_with_its_stubs(wheel: zipfile.ZipFile) -> None:
    assert {"reefleet/v1/fleet_pb2.py", "reefleet/v1/fleet_pb2.pyi"} <= set(wheel.namelist())


def test_no_test_proto_or_cache_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert not [n for n in wheel.namelist() if "test" in n or n.endswith((".proto", ".pyc"))]


def test_the_license_travels_with_the_wheel(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.mark.parametrize("extra", ["edge", "coordinator"])
def test_a_daemon_extra_asks_for_no_torch(metadata: Message, extra: str) -> None:
    assert "torch" not in required_by(metadata, extra)


def test_the_edge_extra_asks_for_nothing_heavy(metadata: Message) -> None:
    required = required_by(metadata, "edge")
    assert {"numpy", "onnxruntime", "grpcio"} <= required
    assert not required & HEAVY


def test_every_extra_is_there(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "edge",
        "coordinator",
        "export",
        "tflite",
        "mqtt",
        "postgresql",
        "ray",
        "tracing",
        "all",
        "dev",
    }


@pytest.mark.parametrize("folder", ["static", "templates"])
def test_the_pages_files_travel_with_it(wheel: zipfile.ZipFile, folder: str) -> None:
    here = {file.name for file in (ROOT / "coordinator/web" / folder).iterdir()}
    there = {name for name in wheel.namelist() if name.startswith(f"coordinator/web/{folder}/")}
    assert {name.rpartition("/")[2] for name in there} == here
