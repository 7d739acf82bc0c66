from __future__ import annotations

import json
from pathlib import Path

import pytest

from reefleet.cli import main
from reefleet.model import ModelContract, ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan


def test_the_plan_is_explained_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--device", "rpi-4b", "--latency-ms", "150"]) == 0
    out = capsys.readouterr().out
    assert "exit depth  6 of 12" in out
    assert "chosen: depth 6 of 12" in out


def test_the_plan_is_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--device", "rpi-5", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values.pop("board") == "rpi-5"
    assert SubmodelPlan.from_json(values).exit_depth == 12


def test_a_contract_names_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = ModelContract(
        ModelSpec(8, 2, 1, 64, 4, 6, 10, (2, 4, 6)),
        Preprocessing(8, 1, 0.5, 0.5),
        tuple("0123456789"),
    )
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(contract.to_json()), encoding="utf-8")
    arguments = ["plan", "--device", "rpi-zero2w", "--latency-ms", "4.2", "--contract", str(path)]
    assert main(arguments) == 0
    assert "exit depth  2 of 6" in capsys.readouterr().out


def test_what_does_not_fit_ends_as_one_line_that_says_what_to_relax(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--device", "rpi-zero2w", "--latency-ms", "3"]) == 70
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "raise latency_ms from 3 to" in error


def test_a_missing_contract_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "absent.json"
    assert main(["plan", "--device", "rpi-5", "--contract", str(path)]) == 66
    assert str(path) in capsys.readouterr().err


def test_help_carries_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--help"]) == 0
    assert "\n  reefleet plan --device rpi-4b" in capsys.readouterr().out
