from __future__ import annotations

import json
from pathlib import Path

import pytest

from devices import catalog
from reefleet.cli import main


def test_list_shows_every_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == sorted(catalog.boards())


def test_list_is_one_json_value_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "list", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {value["id"] for value in values} == set(catalog.boards())
    assert values[0]["figures"]["cores"]["source"]


def test_show_gives_figures_sources_and_unknowns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "show", "jetson-orin-nano"]) == 0
    out = capsys.readouterr().out
    assert "vit_gflops            41.5 +-40%" in out
    assert "unknown: idle_w, load_w" in out
    assert "NCNN: Tencent/ncnn" in out


def test_an_unknown_board_ends_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "show", "rpi-4"]) == 70
    assert capsys.readouterr().err.startswith("reefleet: board 'rpi-4' is not in the catalog")


def test_probe_describes_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "probe", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"board", "cores", "runtimes", "isa"}


@pytest.mark.parametrize("action", [[], ["list"], ["show"], ["add"], ["emulate"], ["probe"]])
def test_help_carries_an_example(action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", *action, "--help"]) == 0
    assert "\n  reefleet devices " in capsys.readouterr().out


def test_show_says_which_systems_a_board_runs_and_where_the_client_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["devices", "show", "jetson-xavier-nx"]) == 0
    out = capsys.readouterr().out
    assert "jetpack4-ubuntu18.04" in out
    assert "Python 3.8; the client needs 3.10" in out
    assert "jetpack6" not in out


def test_systems_are_listed_with_their_wheels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "list", "--systems"]) == 0
    out = capsys.readouterr().out
    line = next(each for each in out.splitlines() if each.startswith("rpios-armhf"))
    assert "no onnxruntime wheel" in line
    assert "unknown" in line


def test_a_board_of_ones_own_is_added_and_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(catalog.FOLDER_VARIABLE, str(tmp_path / "boards"))
    text = (Path(catalog.__file__).parent / "boards" / "rpi-4b.toml").read_text(encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text(text.replace('id = "rpi-4b"', 'id = "my-board"'), encoding="utf-8")
    try:
        assert main(["devices", "add", str(file)]) == 0
        assert main(["plan", "--device", "my-board"]) == 0
        assert "added my-board" in capsys.readouterr().out
    finally:
        catalog.forget()


def test_emulate_says_what_it_would_do_and_does_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["devices", "emulate", "rpi-zero2w", "--cpus", "0.1", "--dry-run", "--", "false"]
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert "emulating Raspberry Pi Zero 2 W:" in said
    assert "not emulated anywhere: instruction set" in said


def test_emulate_gives_back_the_command_s_code() -> None:
    arguments = ["devices", "emulate", "rpi-4b", "--cpus", "1", "--", "sh", "-c", "exit 3"]
    assert main(arguments) == 3
