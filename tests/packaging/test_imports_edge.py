from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import edge_client

UNBEARABLE = (
    "torch",
    "onnx",
    "sqlalchemy",
    "scipy",
    "sklearn",
    "matplotlib",
    "coordinator",
    "export",
)


def loaded_by(statements: str) -> set[str]:
    """Top-level packages in a fresh interpreter after `statements`."""
    program = (
        f"{statements}\nimport json, sys\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_whole_client_loads_nothing_that_a_small_board_cannot_bear() -> None:
    names = [module.name for module in pkgutil.iter_modules(edge_client.__path__)]
    assert "agent" in names
    imports = "\n".join(f"import edge_client.{name}" for name in names)
    use = "from edge_client import runtime\nruntime._runtime()"
    loaded = loaded_by(f"{imports}\nimport reefleet.cli, reefleet.cli.edge\n{use}")
    assert loaded & set(UNBEARABLE) == set()
    assert {"numpy", "grpc", "onnxruntime"} <= loaded


def test_the_command_line_alone_loads_no_library() -> None:
    loaded = loaded_by("import reefleet.cli")
    assert loaded & {*UNBEARABLE, "numpy", "grpc", "onnxruntime", "google", "PIL"} == set()


def test_the_clients_own_command_line_loads_no_library_before_it_runs() -> None:
    loaded = loaded_by("import reefleet.cli.edge")
    assert loaded & {*UNBEARABLE, "numpy", "grpc", "onnxruntime", "google", "PIL"} == set()


def test_answering_needs_neither_the_network_nor_the_training_half() -> None:
    loaded = loaded_by("import edge_client.inference, edge_client.image, edge_client.runtime")
    assert loaded & {*UNBEARABLE, "grpc", "cryptography", "safetensors"} == set()
