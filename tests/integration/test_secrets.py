"""Everything that a whole run writes outside its key folders, searched for what must stay there."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import QUICK
from tests.integration.fleet import DEEP_BOARD, WIDE, Rules, Site, a_contract
from tests.integration.running import REEFLEET, environment
from tests.mosquitto import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

CHATTY = (*REEFLEET, "--log-level", "debug")
KEY_FOLDERS = ("pki", "identity")
LEAST_CHARS = 20  # shorter lines of a key file say nothing


@pytest.fixture
def site(tmp_path: Path, compiled: Path) -> Iterator[Site]:
    tables = f"{QUICK}\n[web]\nport = {free_port()}\n"
    made = Site(tmp_path / "site", a_contract(WIDE), compiled, Rules(1, 1, tables, serve=CHATTY))
    made.start()
    yield made
    made.close()


def command(*words: str) -> str:
    done = subprocess.run(
        [*CHATTY, *words], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def secrets_of(site: Site) -> set[bytes]:
    """Every long line of every key and token that the run made."""
    files = [path for path in site.root.rglob("*.key") if path.parent.name in KEY_FOLDERS]
    files.append(site.folder.web_token)
    assert len(files) == 5  # authority, manifests, operator, device, page
    lines = {line for path in files for line in path.read_bytes().splitlines()}
    return {line for line in lines if len(line) >= LEAST_CHARS and b"-----" not in line}


def test_no_secret_is_written_outside_its_folder(site: Site) -> None:
    folder, state = site.folder, site.state_of("shed")
    new = ("coordinator", "token", "new", "--dir", str(folder.root), "--device", "shed")
    token = command(*new).splitlines()[0]
    assert token.startswith("rf_")
    spare = command(*new).splitlines()[0]
    server = f"127.0.0.1:{site.enrollment_port}"
    enrolling = ("edge", "enroll", "--server", server, "--ca", str(folder.ca_cert))
    said = command(*enrolling, "--token", token, "--state", str(state), "--board", DEEP_BOARD)
    said += command(
        *enrolling, "--token", spare, "--state", str(state), "--board", DEEP_BOARD, "--force"
    )
    client = site.trained_by("shed", CHATTY)
    client.start()
    assert client.end() == 0
    port = site.coordinator.told()[-1]["web_port"]
    said += urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read().decode()
    said += command("coordinator", "status", "--dir", str(folder.root), "--json")
    said += command("coordinator", "device", "shed", "--dir", str(folder.root))
    site.coordinator.kill()
    secrets = {*secrets_of(site), token.encode(), spare.encode()}
    assert len(secrets) > 6
    for secret in secrets:
        assert secret not in said.encode()
    searched = [
        path
        for path in site.root.rglob("*")
        if path.is_file() and path.parent.name not in KEY_FOLDERS
    ]
    assert {site.coordinator.log, client.log, site.folder.state} <= set(searched)
    for path in searched:
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret in data], path


def test_records_of_a_run_name_device_and_round(finished: Site) -> None:
    (client,) = [program for program in finished.programs if program.name == "a"]
    trained = client.events("round trained")
    assert [(entry["device"], entry["round"]) for entry in trained] == [
        ("a", 1),
        ("a", 2),
        ("a", 3),
    ]
    accepted = finished.coordinator.events("Update accepted")
    assert {entry["device"] for entry in accepted} == {"a", "b"}
    closed = finished.coordinator.events("Round closed")
    assert [entry["round"] for entry in closed] == [1, 2, 3]
