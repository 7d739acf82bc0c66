"""Which room loads what, seen from fresh interpreters; the client's own pins lie beside this."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""


def loaded_by(*modules: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *modules],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


def modules_of(package: str) -> list[str]:
    files = (ROOT / package).rglob("*.py")
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    return sorted(name.removesuffix(".__init__") for name in names)


def test_the_coordinator_loads_neither_compiler_nor_client() -> None:
    pytest.importorskip("sqlalchemy")
    scripts = {"coordinator.store.migrations.env"}  # Alembic runs it, and nobody can import it
    loaded = loaded_by(*sorted(set(modules_of("coordinator")) - scripts))
    assert not loaded & {"torch", "onnx", "onnxruntime", "scipy", "export", "edge_client"}


def test_shared_rooms_load_no_wheel_of_one_role() -> None:
    shared = [*modules_of("reefleet/wire"), *modules_of("reefleet/aggregation"), "reefleet.blobs"]
    loaded = loaded_by(*shared, *modules_of("devices"))
    assert not loaded & {"torch", "onnx", "onnxruntime", "sqlalchemy", "grpc", "cryptography"}


def test_the_contracts_load_no_wheel_at_all() -> None:
    loaded = loaded_by("reefleet.errors", "reefleet.model", "reefleet.plan", "reefleet.settings")
    assert not loaded & {"numpy", "google", "grpc"}


@pytest.mark.parametrize(
    "name", ["coordinator", "demo", "devices", "edge", "export", "model", "simulate"]
)
def test_a_subcommand_loads_no_wheel_before_it_runs(name: str) -> None:
    loaded = loaded_by(f"reefleet.cli.{name}")
    assert not loaded & {"numpy", "grpc", "torch", "onnxruntime", "sqlalchemy", "matplotlib"}
