"""`reefleet coordinator` as people start it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reefleet import invitation
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


def test_init_makes_the_state(fleet: Path) -> None:
    assert (fleet / "state.db").is_file()


def test_an_invitation_of_nobody_leaves_no_folder(tmp_path: Path) -> None:
    assert main(["coordinator", "init", str(tmp_path / "new"), "--invite", "0"]) == 65
    assert not (tmp_path / "new").exists()


def test_init_twice_is_refused(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator", "init", str(fleet)]) == 78
    assert "not set up twice" in capsys.readouterr().err


def test_a_folder_without_a_coordinator_names_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["serve", str(tmp_path)], ["status", "--dir", str(tmp_path)]):
        assert main(["coordinator", *verb]) == 66
        assert "reefleet coordinator init" in capsys.readouterr().err


def test_a_coordinator_that_does_not_run_is_said_not_to(
    fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coordinator", "status", "--dir", str(fleet)]) == 66
    assert f"reefleet coordinator serve {fleet}" in capsys.readouterr().err


VERBS = [
    *("init", "serve", "status", "devices", "device", "rounds", "round", "versions"),
    *("pause", "resume", "revoke", "token", "export-metrics", "backup", "restore"),
    *("plan", "deploy", "rollback", "deployments"),
]


@pytest.mark.parametrize("verb", VERBS)
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


@pytest.mark.integration
def test_the_fleet_is_operated_over_the_wire(
    serving: Any, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, line = serving()
    capsys.readouterr()

    def said(*arguments: str) -> str:
        assert main(["coordinator", *arguments, "--dir", str(fleet)]) == 0
        return capsys.readouterr().out

    token = said("token", "new", "--device", "shed-2", "--ttl", "2h")
    assert re.fullmatch(r"rf_[\w-]{43}", token.strip())
    found = json.loads(said("token", "new", "--uses", "5", "--json"))
    assert set(found) == {"token", "expires_at"}
    said("pause")
    status = json.loads(said("status", "--json"))
    assert (status["fleet"], status["paused"], status["rounds_total"]) == ("fleet", True, 8)
    assert "PAUSED, 0 of 8 rounds closed" in said("status")
    assert json.loads(said("resume", "--json")) == {"paused": False}
    assert json.loads(said("devices", "--json")) == []
    assert said("devices").split()[:2] == ["device", "board"]
    assert said("rounds").startswith("round")
    assert said("versions").startswith("version")
    assert said("export-metrics") == ""
    assert said("deployments").startswith("deployment")
    assert json.loads(said("plan", "--json")) == []
    letter = fleet / "shed.json"
    token = said("token", "new", "--device", "shed", "--invitation", str(letter)).strip()
    invited = invitation.read(letter)
    assert invited.token == token
    assert invited.ca.encode() == (fleet / "pki" / "ca.pem").read_bytes()
    assert invited.server == f"127.0.0.1:{line['enrollment_port']}"


@pytest.mark.integration
def test_a_watched_view_is_shown_again_and_again(serving: Any, fleet: Path) -> None:
    serving()
    command = [sys.executable, "-m", "reefleet", "coordinator", "devices", "--dir", str(fleet)]
    watching = subprocess.Popen([*command, "--watch", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert watching.stdout is not None
        assert [watching.stdout.readline() for _ in range(2)] == ["[]\n", "[]\n"]
    finally:
        watching.kill()
        watching.communicate()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("verb", "code"),
    [
        (["revoke", "ghost"], 65),
        (["device", "ghost"], 65),
        (["round", "9"], 65),
        (["token", "new", "--device", "Shed 2"], 65),
        (["token", "new", "--uses", "0"], 65),
        (["token", "new", "--ttl", "9000d"], 65),
        (["token", "new", "--ttl", "soon"], 2),
        (["deploy", "9"], 65),
        (["deploy", "0", "--canary", "120%"], 2),
        (["rollback"], 77),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(
    serving: Any, fleet: Path, verb: list[str], code: int
) -> None:
    serving()
    assert main(["coordinator", *verb, "--dir", str(fleet)]) == code


@pytest.mark.integration
def test_a_copy_of_the_pki_operates_from_elsewhere(
    serving: Any, fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, line = serving()
    copy = tmp_path / "laptop"
    copy.mkdir()
    for name in ("operator.pem", "operator.key", "ca.pem"):
        (copy / name).write_bytes((fleet / "pki" / name).read_bytes())
    server = f"127.0.0.1:{line['fleet_port']}"
    capsys.readouterr()
    assert main(["coordinator", "status", "--dir", str(copy), "--server", server]) == 0
    assert "fleet fleet" in capsys.readouterr().out


@pytest.mark.integration
def test_a_hangup_reads_the_settings_anew_and_wrong_ones_change_nothing(
    serving: Any, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process, before = serving()

    def rounds() -> int:
        capsys.readouterr()
        assert main(["coordinator", "status", "--json", "--dir", str(fleet)]) == 0
        return int(json.loads(capsys.readouterr().out)["rounds_total"])

    settings = fleet / "coordinator.toml"
    text = settings.read_text()
    settings.write_text(text.replace("total = 8", "total = 11"))
    process.send_signal(signal.SIGHUP)
    assert json.loads(process.stdout.readline()) == before
    assert rounds() == 11
    settings.write_text(text.replace("total = 8", "total = 0"))
    process.send_signal(signal.SIGHUP)
    assert "Settings not reloaded" in next(
        line for line in process.stderr if "not reloaded" in line
    )
    assert rounds() == 11
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.integration
def test_systemd_is_told_ready_alive_and_stopping(
    serving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process, _ = serving()
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        heard = b""
        while heard != b"STOPPING=1":
            heard = manager.recv(100)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_backup_is_restored_elsewhere(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, new = str(tmp_path / "b.tar"), str(tmp_path / "new")
    assert main(["coordinator", "backup", packed, "--dir", str(fleet)]) == 0
    assert main(["coordinator", "restore", packed, "--dir", new]) == 0
    assert f"reefleet coordinator serve {new}" in capsys.readouterr().out
    assert main(["coordinator", "restore", packed, "--dir", new]) == 78
