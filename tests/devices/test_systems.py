from __future__ import annotations

import pytest

from devices import catalog
from devices.systems import systems, systems_of


@pytest.mark.parametrize(
    ("board", "found"),
    [
        ("rpi-4b", ["rpios-bookworm-arm64", "rpios-trixie-arm64", "rpios-armhf"]),
        ("jetson-nano-4gb", ["jetpack4-ubuntu18.04"]),
        ("jetson-agx-thor", ["jetpack7-ubuntu24.04"]),
    ],
)
def test_a_board_runs_the_systems_of_its_family(board: str, found: list[str]) -> None:
    assert [system.id for system in systems_of(catalog.find(board))] == found


def test_every_bundled_board_has_a_system() -> None:
    assert all(systems_of(board) for board in catalog.boards().values())


def test_the_client_runs_where_python_and_onnxruntime_are_new_enough() -> None:
    able = {system.id for system in systems() if not system.obstacle}
    assert able == {
        "rpios-bookworm-arm64",
        "rpios-trixie-arm64",
        "jetpack6-ubuntu22.04",
        "jetpack7-ubuntu24.04",
    }


def test_a_wheel_that_is_absent_is_no_runtime() -> None:
    trixie = next(system for system in systems() if system.id == "rpios-trixie-arm64")
    assert trixie.runtimes == ("onnxruntime", "ai-edge-litert")
