from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.planner import Budget
from coordinator.planner.fleet import cost_of, planned, read_fleet, total
from reefleet.errors import ConfigError, MissingFile, UnknownBoard
from reefleet.model import ModelSpec

SPEC = ModelSpec(8, 2, 1, 64, 4, 6, 10, (2, 4, 6))
FLEET = """
[budget]
latency_ms = 4.2
[[device]]
name = "attic"
board = "rpi-zero2w"
count = 3
[[device]]
board = "rpi-4b"
memory_mib = 1024
samples = 40
"""


def a_file(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_fleet_file_gives_devices_and_budget(tmp_path: Path) -> None:
    members, grants = read_fleet(a_file(tmp_path, FLEET))
    assert [(m.name, m.count) for m in members] == [("attic", 3), ("rpi-4b", 1)]
    assert members[1].profile.memory_available_mib == 780
    assert members[1].profile.train_samples == 40
    assert grants == {"latency_ms": 4.2}


def test_the_total_counts_every_device_and_says_how_many_energy_covers(tmp_path: Path) -> None:
    members, _ = read_fleet(a_file(tmp_path, FLEET))
    found = planned(members, SPEC, Budget(latency_ms=4.2, memory_share=0.5))
    everything = total(found, SPEC)
    assert (everything.devices, everything.planned) == (4, 4)
    assert all(member.decision for member in found)
    costs = [cost_of(m.decision) for m in found if m.decision]
    assert everything.moved_mib == pytest.approx(3 * costs[0].moved_mib + costs[1].moved_mib)
    assert everything.holders[2] == 4
    assert everything.longest_round_s == max(cost.round_s for cost in costs)


def test_a_device_that_cannot_be_planned_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    members, _ = read_fleet(a_file(tmp_path, FLEET))
    found = planned(members, SPEC, Budget(latency_ms=2.0))
    assert found[0].decision is None
    assert "raise latency_ms" in found[0].failure
    assert found[1].decision is not None
    assert total(found, SPEC).planned == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "names no device"),
        ("[[device]]\nname = 'x'", "device 1 names no board"),
        ("[[device]]\nboard = 'rpi-5'\nwarp = 1", "'warp'"),
        ("[[device]]\nboard = 'rpi-5'\ncount = 0", "count is 0"),
        ("[device]\nboard = 'rpi-5'", "names no device"),
        ("fleet = 1", "'fleet'"),
        ("= 3", "not TOML"),
    ],
)
def test_a_wrong_fleet_file_names_file_and_mistake(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"fleet\.toml.*{named}"):
        read_fleet(a_file(tmp_path, text))


def test_an_unknown_board_and_an_absent_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownBoard, match="toaster"):
        read_fleet(a_file(tmp_path, "[[device]]\nboard = 'toaster'"))
    with pytest.raises(MissingFile, match=r"absent\.toml"):
        read_fleet(tmp_path / "absent.toml")
