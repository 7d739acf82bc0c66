from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from edge_client.personalize import personalize
from edge_client.task import PERSONALIZE
from reefleet.cli import main


@pytest.fixture
def bundle(kit: SimpleNamespace, tmp_path: Path) -> Path:
    coordinator, task = kit.a_coordinator()
    client = kit.a_client(tmp_path, coordinator, kit.device_data(train=60))
    personalize(client, replace(task, kind=PERSONALIZE, round=4))
    Image.fromarray(client.data.test.images[0, 0]).save(tmp_path / "some.png")
    return tmp_path / "submodel"


def test_infer_tells_class_confidence_exit_and_time(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edge", "infer", str(bundle), str(bundle.parent / "some.png")]) == 0
    told = capsys.readouterr().out
    assert told.split()[0] in {"a", "b", "c"}
    assert "confidence" in told
    assert "of 2 blocks" in told


def test_infer_as_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(bundle.parent / "some.png")
    assert main(["edge", "infer", str(bundle), image, "--json", "--full-depth"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_depth"] == answer["full_depth"] == 2
    assert 0 < answer["confidence"] <= 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["infer", "nowhere", "x.png"], 66, "no sub-model bundle"),
        (["run", "--state", "nowhere", "--data", "d.npz"], 77, "edge enroll"),
        (["run", "--state", "nowhere"], 78, "data is missing"),
        (["run", "--state", "nowhere", "--data", "d", "--threads", "0"], 78, "threads"),
        (["enroll", "--server", "h:1", "--ca", "gone", "--token", "t", "--state", "s"], 66, "gone"),
    ],
)
def test_a_failure_is_one_sentence_and_its_exit_code(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["edge", *arguments]) == code
    told = capsys.readouterr().err
    assert told.startswith("reefleet: ")
    assert sentence in told
    assert told.count("\n") == 1


def test_a_misspelt_board_fails_at_enrollment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--server", "h:1", "--ca", "c", "--token", "t", "--state", str(tmp_path)]
    assert main(["edge", "enroll", *given, "--board", "rpi-4c"]) == 70
    assert "rpi-4b" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["enroll"], ["run"], ["infer"]])
def test_every_command_has_an_example(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(["edge", *command, "--help"]) == 0
    assert "\nexample" in capsys.readouterr().out
