from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.planner import AccuracyTable, default_table, read_table
from reefleet.errors import ConfigError, MissingFile
from reefleet.model import ModelSpec

SPEC = ModelSpec(8, 2, 1, 64, 4, 6, 10, (2, 4, 6))
TABLE = AccuracyTable("test", (2, 4), (2, 4, 8), ((0.5, 0.6, 0.7), (0.6, 0.8, 0.9)))


def test_bits_between_measured_ones_are_interpolated() -> None:
    assert TABLE.expected(2, 4) == 0.6
    assert TABLE.expected(2, 6) == pytest.approx(0.65)
    assert AccuracyTable("test", (2,), (4,), ((0.6,),)).expected(2, 8) == 0.6


@pytest.mark.parametrize(("depth", "bits"), [(3, 4), (2, 1)])
def test_what_nobody_measured_is_refused_by_name(depth: int, bits: int) -> None:
    with pytest.raises(ConfigError, match=f"depth {depth} at {bits} bits"):
        TABLE.expected(depth, bits)


def test_the_default_form_rises_with_depth_and_bits() -> None:
    table = default_table(SPEC)
    by_bits = [table.expected(4, bits) for bits in range(1, 9)]
    by_depth = [table.expected(depth, 8) for depth in SPEC.exits]
    assert by_bits == sorted(by_bits)
    assert by_depth == sorted(by_depth)
    assert "not measured" in table.source


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(TABLE.to_json()), encoding="utf-8")
    assert read_table(path) == TABLE


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 2}, "format 2"),
        ({"depths": [4, 2]}, "depths"),
        ({"accuracy": [[0.5, 0.6, 0.7]]}, "1 rows for 2 depths"),
        ({"accuracy": [[0.5, 0.6, 7], [0.6, 0.8, 0.9]]}, "the row of depth 2"),
        ({"accuracy": 3}, "must be numbers"),
        ({"warp": 9}, "'warp' is unknown"),
    ],
)
def test_a_wrong_table_names_file_and_mistake(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps({**TABLE.to_json(), **change}), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"accuracy\.json: .*{named}"):
        read_table(path)


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"absent\.json"):
        read_table(tmp_path / "absent.json")
