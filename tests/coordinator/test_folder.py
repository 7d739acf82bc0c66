"""A coordinator's folder: what `init` lays down, who may read it, and what systemd supplies."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from coordinator.folder import OPERATOR_SPARE_S, Folder, check_keys, create, renew_operator
from reefleet.errors import DamagedFile
from reefleet.rpc.identity import OPERATOR_DAYS, certificate_facts


@pytest.fixture
def folder(tmp_path: Path, contract_file: Path) -> Folder:
    return create(tmp_path / "fleet", "barn", contract_file, None)


def test_keys_are_for_their_owner_only(folder: Folder) -> None:
    pki = folder.ca_key.parent
    assert stat.S_IMODE(pki.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in pki.iterdir()} == {0o600}
    assert {path.name for path in pki.iterdir()} == {
        *("ca.pem", "ca.key", "manifest.key", "operator.pem", "operator.key", "web.token"),
    }


def test_nobody_else_may_look_into_a_new_folder(folder: Folder) -> None:
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "manifest.key"])
def test_a_damaged_key_is_named(folder: Folder, name: str) -> None:
    check_keys(folder)
    (folder.root / "pki" / name).write_text("no key")
    with pytest.raises(DamagedFile, match=f"pki/{name}: .*; take it from a backup"):
        check_keys(folder)


def test_a_damaged_operators_certificate_is_made_anew(folder: Folder) -> None:
    folder.operator_cert.write_text("no certificate")
    renew_operator(folder, time.time())
    assert certificate_facts(folder.operator_cert.read_bytes()).role == "operator"


def test_the_operators_certificate_is_made_anew_before_it_ends(folder: Folder) -> None:
    first = folder.operator_cert.read_bytes()
    assert certificate_facts(first).role == "operator"
    renew_operator(folder, time.time())
    assert folder.operator_cert.read_bytes() == first
    renew_operator(folder, time.time() + OPERATOR_DAYS * 86400 - OPERATOR_SPARE_S + 60)
    assert folder.operator_cert.read_bytes() != first


def test_a_folder_of_before_gets_its_operator(folder: Folder) -> None:
    folder.operator_cert.unlink()
    folder.operator_key.unlink()
    renew_operator(folder, time.time())
    assert folder.operator_cert.is_file()
    assert stat.S_IMODE(folder.operator_key.stat().st_mode) == 0o600


def test_systemds_credentials_win_over_the_files(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.key").write_bytes(b"from systemd")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert folder.key(folder.ca_key) == b"from systemd"
    assert folder.key(folder.manifest_key) == folder.manifest_key.read_bytes()
