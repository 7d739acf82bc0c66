"""`reefleet coordinator` as people start it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reefleet.cli import main

CONTRACT = {
    "model": {
        "image_size": 4,
        "patch_size": 2,
        "channels": 1,
        "width": 8,
        "heads": 2,
        "depth": 1,
        "classes": 2,
        "exits": [1],
        "ree_heads": 2,
        "ree_width": 4,
    },
    "preprocessing": {"size": 4, "channels": 1, "mean": 0.5, "std": 0.5},
    "labels": ["a", "b"],
}
LOCAL = {
    "REEFLEET_COORDINATOR_LISTEN_HOST": "127.0.0.1",
    "REEFLEET_COORDINATOR_LISTEN_FLEET_PORT": "0",
    "REEFLEET_COORDINATOR_LISTEN_ENROLLMENT_PORT": "0",
}


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A coordinator's folder, made by init."""
    contract = tmp_path / "contract.json"
    contract.write_text(json.dumps(CONTRACT))
    assert main(["coordinator", "init", str(tmp_path / "fleet"), "--contract", str(contract)]) == 0
    return tmp_path / "fleet"


@pytest.fixture
def serving(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start `serve` over the folder; whatever still runs at the end is killed."""
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], dict[str, Any]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "reefleet", "coordinator", "serve", str(fleet)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_init_says_where_things_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator", "init", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/new/pki/ca.pem" in said
    assert f"put the model's contract at {tmp_path}/new/contract.json" in said
    assert f"reefleet coordinator serve {tmp_path}/new" in said


def test_init_twice_is_refused(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator", "init", str(fleet)]) == 78
    assert "not set up twice" in capsys.readouterr().err


def test_a_token_is_all_that_token_prints(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["coordinator", "token", str(fleet), "--device", "shed-2"]) == 0
    assert len(capsys.readouterr().out.strip()) == 43


@pytest.mark.parametrize("bad", [["--device", "Shed 2"], ["--device", "a", "--ttl-h", "0"]])
def test_a_token_that_cannot_be_is_refused(fleet: Path, bad: list[str]) -> None:
    assert main(["coordinator", "token", str(fleet), *bad]) == 65


def test_status_of_a_coordinator_that_never_ran(
    fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["coordinator", "status", str(fleet), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["phase"], found["rounds_closed"], found["devices"]) == ("pretraining", 0, [])
    assert main(["coordinator", "status", str(fleet)]) == 0
    assert "0 of 8 rounds closed" in capsys.readouterr().out


def test_a_folder_without_a_coordinator_names_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["serve"], ["status"], ["token", "--device", "a"]):
        assert main(["coordinator", verb[0], str(tmp_path), *verb[1:]]) == 66
        assert "reefleet coordinator init" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["init", "serve", "token", "status"])
def test_each_verb_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator", verb, "--help"]) == 0
    assert f"reefleet coordinator {verb}" in capsys.readouterr().out.split("example")[-1]


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_well_when_asked(serving: Any, number: signal.Signals) -> None:
    process, line = serving()
    assert line["event"] == "listening"
    assert line["fleet_port"] != line["enrollment_port"]
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err
    assert "PRIVATE KEY" not in err


@pytest.mark.integration
def test_serve_takes_its_ports_again_after_a_kill(serving: Any) -> None:
    process, before = serving()
    process.kill()
    process.communicate(timeout=60)
    _, after = serving()
    assert after == before
