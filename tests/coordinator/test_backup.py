"""A backup holds everything a coordinator stands on; a restored one goes on where it was."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import backup
from coordinator import records as r
from coordinator.folder import Folder, create
from coordinator.store import Store
from coordinator.store.address import address_of
from reefleet.errors import ChecksumMismatch, ConfigError, DamagedFile, MissingFile, StoreError
from tests.postgresql import Server

MakeRun = Callable[..., Any]


@pytest.fixture
def live(a_run: MakeRun, tmp_path: Path, contract_file: Path) -> Any:
    """A run with an open round in a coordinator's folder, still open as by a daemon."""
    create(tmp_path / "other", "barn", contract_file, None)
    for path in (tmp_path / "other").iterdir():
        path.rename(tmp_path / path.name)
    run = a_run(2, 1)
    run.rounds.advance()
    run.push("a")
    run.store.refuse(r.Refusal(1, "a", "", "earlier", 1.0), None)
    return run


def test_a_restored_coordinator_has_state_keys_and_blobs(live: Any, tmp_path: Path) -> None:
    made = backup.make(live.root, tmp_path / "b.tar")
    live.push("b")  # after the backup
    found = backup.restore(tmp_path / "b.tar", tmp_path / "new")
    assert (found.fleet, found.blobs) == ("barn", made.blobs)
    folder = Folder(tmp_path / "new")
    assert folder.ca_key.read_bytes() == Folder(live.root).ca_key.read_bytes()
    assert folder.config.read_bytes() == Folder(live.root).config.read_bytes()
    assert folder.contract.is_file()
    store = Store(folder.state)
    assert [update.device_id for update in store.updates(1)] == ["a"]
    assert store.open_assignment("b") is not None
    assert all((folder.blobs / d[:2] / d).is_file() for d in store.needed_blobs())
    store.close()


def test_a_backup_and_restored_keys_are_for_their_owner_only(live: Any, tmp_path: Path) -> None:
    backup.make(live.root, tmp_path / "b.tar")
    backup.restore(tmp_path / "b.tar", tmp_path / "new")
    folder = Folder(tmp_path / "new")
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "b.tar", folder.ca_key)]
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE(folder.ca_key.parent.stat().st_mode) == 0o700


def test_a_backup_overwrites_nothing_and_leaves_no_half(live: Any, tmp_path: Path) -> None:
    backup.make(live.root, tmp_path / "b.tar")
    with pytest.raises(ConfigError, match="exists"):
        backup.make(live.root, tmp_path / "b.tar")
    with pytest.raises(ConfigError, match="not empty"):
        backup.restore(tmp_path / "b.tar", live.root)
    live.blobs.delete(live.store.latest_version().artifact.sha256)
    with pytest.raises(MissingFile):
        backup.make(live.root, tmp_path / "c.tar")
    assert not list(tmp_path.glob("*c.tar")) + list(tmp_path.glob(".backup-*"))


def test_what_is_no_backup_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        backup.restore(tmp_path / "gone.tar", tmp_path / "new")
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    with pytest.raises(DamagedFile):
        backup.restore(tmp_path / "noise", tmp_path / "new")
    assert not list(tmp_path.glob("new*"))


def test_state_moves_from_a_file_to_a_server_and_back(
    live: Any, tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.make(live.root, tmp_path / "file.tar")
    url = postgresql.database()
    monkeypatch.setenv("REEFLEET_COORDINATOR_DATABASE", url)
    backup.restore(tmp_path / "file.tar", tmp_path / "served")
    assert not Folder(tmp_path / "served").state.exists()
    with pytest.raises(StoreError, match="empty it first"):
        backup.restore(tmp_path / "file.tar", tmp_path / "again")
    assert not (tmp_path / "again").exists()
    server = Store(address_of(url, tmp_path))
    assert server.updates() == live.store.updates()
    work = server.open_assignment("b")
    server.refuse(r.Refusal(1, "b", "", "of no use", 1.0), work.lease)  # numbers go on
    server.close()
    backup.make(tmp_path / "served", tmp_path / "server.tar")
    monkeypatch.delenv("REEFLEET_COORDINATOR_DATABASE")
    backup.restore(tmp_path / "server.tar", tmp_path / "home")
    store = Store(Folder(tmp_path / "home").state)
    assert [one.reason for one in store.refusals()] == ["earlier", "of no use"]
    assert store.updates() == live.store.updates()
    assert store.devices() == live.store.devices()
    store.close()


def altered(source: Path, target: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for entry in old:
            stream = old.extractfile(entry)
            assert stream is not None
            entry.name, data = change(entry.name, stream.read())
            entry.size = len(data)
            new.addfile(entry, io.BytesIO(data))
    return target


def test_a_damaged_backup_is_refused(live: Any, tmp_path: Path) -> None:
    made = tmp_path / "b.tar"
    backup.make(live.root, made)

    def flip(name: str, data: bytes) -> tuple[str, bytes]:
        return name, data[:-1] + b"!" if name.startswith("blobs/") else data

    def escape(name: str, data: bytes) -> tuple[str, bytes]:
        return name.replace("pki/", "../"), data

    def newer(name: str, data: bytes) -> tuple[str, bytes]:
        return name, data.replace(b'"format": 1', b'"format": 9')

    def other(name: str, data: bytes) -> tuple[str, bytes]:
        return name.replace("state.db", "pki/state.db"), data

    for number, (change, error) in enumerate(
        [
            (flip, ChecksumMismatch),
            (escape, DamagedFile),
            (newer, DamagedFile),
            (other, DamagedFile),
        ]
    ):
        bad = altered(made, tmp_path / f"{number}.tar", change)
        with pytest.raises(error):
            backup.restore(bad, tmp_path / "new")
    short = tmp_path / "short.tar"
    short.write_bytes(made.read_bytes()[: made.stat().st_size // 3])
    with pytest.raises((DamagedFile, StoreError)):
        backup.restore(short, tmp_path / "new")
    assert not list(tmp_path.glob("new*"))
