from __future__ import annotations

import json
from pathlib import Path

import pytest

from reefleet.cli import main
from reefleet.model import ModelContract, ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan


def test_the_plan_is_explained_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--device", "rpi-4b", "--latency-ms", "50"]) == 0
    out = capsys.readouterr().out
    assert "exit depth  2 of 12" in out
    for line in ("chosen: depth 2 of 12", "binding: latency_ms", "runner-up: ", "not depth 4: "):
        assert line in out
    assert "in doubt: were the prior's median right, depth 4 " in out


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


def test_a_fleet_is_planned_as_a_table_with_its_total(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.toml"
    text = "[budget]\nlatency_ms = 60.0\n[[device]]\nname = 'shed'\nboard = 'rpi-4b'\ncount = 3\n"
    path.write_text(text + "[[device]]\nboard = 'rpi-zero2w'\n", encoding="utf-8")
    assert main(["plan", "--fleet", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("shed")
    assert "3 of 4 devices planned" in out
    assert "raise latency_ms from 60" in out
    relaxed = ["--latency-ms", "1000", "--memory-share", "0.95", "--round-deadline-s", "1e5"]
    assert main(["plan", "--fleet", str(path), *relaxed, "--json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert (total["devices"], total["planned"]) == (4, 4)


def test_every_depth_and_bit_width_has_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--device", "rpi-4b", "--latency-ms", "150"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out[out.index("depth  bits") :].splitlines()[1:]]
    covered = sum(int(bits.split("-")[-1]) - int(bits.split("-")[0]) + 1 for _, bits, *_ in rows)
    assert covered == 6 * 7
    assert sum(row[-1] == "chosen" for row in rows) == 1


def test_a_probed_profile_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"board": "rpi-5", "memory_available_mib": 900, "cores": 4}')
    assert main(["plan", "--profile", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["board"] == "rpi-5"


def test_the_what_if_picture_is_text_and_png(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "what-if.png"
    arguments = ["plan", "--device", "rpi-4b", "--latency-ms", "150", "--what-if", "packed"]
    assert main([*arguments, "--picture", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "rpi-4b: expected accuracy against packed sub-model (MiB)" in out
    assert "#" in out


def test_a_picture_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--device", "rpi-4b", "--picture", "x.png"]) == 65
    assert "--what-if" in capsys.readouterr().err
