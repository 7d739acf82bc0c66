from __future__ import annotations

import json

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


@pytest.mark.parametrize("action", [[], ["list"], ["show"], ["probe"]])
def test_help_carries_an_example(action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", *action, "--help"]) == 0
    assert "\n  reefleet devices " in capsys.readouterr().out
