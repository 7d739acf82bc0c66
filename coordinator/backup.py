"""A coordinator in one file: settings, keys, state and the blobs that the state stands on.

A backup may be taken while the coordinator runs: the state is copied as of one moment, and blobs
never change. It holds the fleet's keys, so the file is readable by its owner only. The state is in
it as a SQLite file whatever database it came from, and goes into the one that the settings name.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from coordinator.config import read_config
from coordinator.folder import Folder
from coordinator.state import state_address
from coordinator.store import Store
from reefleet.blobs import BlobStore, sha256_hex
from reefleet.errors import ChecksumMismatch, ConfigError, DamagedFile, MissingFile, StoreError

FORMAT = 1
HEAD = "backup.json"
MAX_HEAD_BYTES = 1 << 16
ATTEMPTS = 3
_FILE = re.compile(r"coordinator\.toml|state\.db|pki/[a-z.]+|files/[A-Za-z0-9._-]+")
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_BUILDING = ".restoring"


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds."""

    fleet: str
    made_at: float
    blobs: int
    size_bytes: int


def make(root: Path, target: Path) -> Backup:
    """Write a backup of the coordinator in `root` to `target`, whole or not at all.

    Raises MissingFile where there is no coordinator, StoreError where its state or a blob cannot
    be read.
    """
    config = read_config(root)
    if target.exists():
        msg = f"{target} exists; a backup does not overwrite a file"
        raise ConfigError(msg)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as name:
        packed = Path(name) / "backup.tar"
        for attempt in range(ATTEMPTS):
            try:
                blobs = _pack(Folder(root), config.fleet, packed, _own_files(root))
                break
            except MissingFile:
                # A blob was collected after the state was copied; a newer copy names none such.
                if attempt == ATTEMPTS - 1:
                    raise
        packed.chmod(0o600)
        with packed.open("rb") as stream:
            os.fsync(stream.fileno())
        packed.replace(target)
    return Backup(config.fleet, time.time(), blobs, target.stat().st_size)


def restore(source: Path, root: Path) -> Backup:
    """Lay down the coordinator in the backup `source` at `root`, a new or empty folder.

    Every blob is held against its digest. Raises MissingFile, DamagedFile, ConfigError where `root`
    is taken.
    """
    if root.exists() and any(root.iterdir()):
        msg = f"{root} is not empty; restore into a new folder"
        raise ConfigError(msg)
    building = root.with_name(root.name + _BUILDING)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True, mode=0o700)
    try:
        found = _unpack(source, building)
        _check_whole(building, source)
        _move_state(building)
        if root.exists():
            root.rmdir()
        building.rename(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return found


def _own_files(root: Path) -> list[Path]:
    """The files in the folder that the settings name: contract, checkpoint, accuracy table."""
    source = read_config(root).model
    named = [source.contract, source.checkpoint, source.accuracy]
    paths = [root / path for path in named if path is not None and not path.is_absolute()]
    return [path for path in paths if path.is_file() and path.parent == root]


def _pack(folder: Folder, fleet: str, target: Path, own: list[Path]) -> int:
    state = target.with_suffix(".db")
    state.unlink(missing_ok=True)
    live = Store(state_address(folder, read_config(folder.root)))
    try:
        live.copy_to(state)
    finally:
        live.close()
    copied = Store(state)
    try:
        digests = sorted(copied.needed_blobs())
    finally:
        copied.close()
    blobs = BlobStore(folder.blobs)
    head = {"format": FORMAT, "fleet": fleet, "made_at": time.time(), "blobs": len(digests)}
    with tarfile.open(target, "w") as archive:
        _add(archive, HEAD, json.dumps(head).encode())
        _add(archive, "coordinator.toml", folder.config.read_bytes())
        for path in sorted(folder.ca_cert.parent.iterdir()):
            _add(archive, f"pki/{path.name}", path.read_bytes())
        for path in own:
            _add(archive, f"files/{path.name}", path.read_bytes())
        for digest in digests:
            _add(archive, f"blobs/{digest}", blobs.read(digest))
        archive.add(state, "state.db")
    return len(digests)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))


def _unpack(source: Path, root: Path) -> Backup:
    folder = Folder(root)
    folder.ca_cert.parent.mkdir(mode=0o700)
    try:
        with tarfile.open(source, "r:") as archive:
            head = _head(archive, source)
            for entry in archive:
                _extract(archive, entry, folder, source)
    except FileNotFoundError as error:
        msg = f"there is no backup {source}"
        raise MissingFile(msg) from error
    except (tarfile.TarError, EOFError) as error:
        msg = f"{source} is not a whole backup: {error}"
        raise DamagedFile(msg) from error
    return Backup(head.fleet, head.made_at, head.blobs, source.stat().st_size)


def _head(archive: tarfile.TarFile, source: Path) -> Backup:
    first = archive.next()
    stream = archive.extractfile(first) if first and first.name == HEAD else None
    try:
        head = json.loads(stream.read(MAX_HEAD_BYTES)) if stream else {}
        if head["format"] == FORMAT:
            return Backup(str(head["fleet"]), float(head["made_at"]), int(head["blobs"]), 0)
    except (ValueError, KeyError, TypeError):
        pass
    msg = f"{source} is not a coordinator's backup of format {FORMAT}"
    raise DamagedFile(msg)


def _extract(
    archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Folder, source: Path
) -> None:
    stream = archive.extractfile(entry) if entry.isfile() else None
    blob = _BLOB.fullmatch(entry.name)
    if stream is None or not (blob or _FILE.fullmatch(entry.name) or entry.name == HEAD):
        msg = f"{source} holds {entry.name[:80]!r}, which no backup does"
        raise DamagedFile(msg)
    if blob:
        data = stream.read()
        if sha256_hex(data) != blob[1]:
            msg = f"blob {blob[1]} in {source} is damaged"
            raise ChecksumMismatch(msg)
        BlobStore(folder.blobs).put(data)
    elif entry.name != HEAD:
        target = folder.root / entry.name.removeprefix("files/")
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(stream, file)
            os.fsync(file.fileno())


def _move_state(root: Path) -> None:
    """Give the state to the server that the settings name, where they do."""
    folder = Folder(root)
    address = state_address(folder, read_config(root))
    if not address.is_postgresql:
        return
    found, server = Store(folder.state), Store(address)
    try:
        server.load(found)
    finally:
        server.close()
        found.close()
    folder.state.unlink()


def _check_whole(root: Path, source: Path) -> None:
    read_config(root)
    folder = Folder(root)
    if not folder.state.is_file():
        msg = f"{source} ends before the state"
        raise DamagedFile(msg)
    store = Store(folder.state)
    try:
        blobs = BlobStore(folder.blobs)
        missing = [digest for digest in store.needed_blobs() if not blobs.has(digest)]
    finally:
        store.close()
    if missing:
        msg = f"{source} lacks {len(missing)} of the blobs that its state names"
        raise StoreError(msg)
