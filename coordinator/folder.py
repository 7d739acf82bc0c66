"""A coordinator's folder: what `init` lays down once, and where everything lies afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.config import CONFIG_NAME, read_contract, template
from reefleet.blobs import write_atomic
from reefleet.errors import ConfigError, MissingFile, StoreError
from reefleet.rpc.identity import create_authority, new_manifest_key

PRETRAIN_PREFIX = "pretrain-"


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths below `root`. Keys lie in `pki` (0700), each readable by its owner only."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings, for people to edit."""
        return self.root / CONFIG_NAME

    @property
    def contract(self) -> Path:
        """The model contract, where the settings name no other."""
        return self.root / "contract.json"

    @property
    def ca_cert(self) -> Path:
        """The fleet's authority; every device needs a copy."""
        return self.root / "pki" / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """What signs certificates."""
        return self.root / "pki" / "ca.key"

    @property
    def manifest_key(self) -> Path:
        """What signs manifests."""
        return self.root / "pki" / "manifest.key"

    @property
    def state(self) -> Path:
        """The SQLite file."""
        return self.root / "state.db"

    @property
    def blobs(self) -> Path:
        """Files by digest."""
        return self.root / "blobs"

    @property
    def logs(self) -> Path:
        """Stderr of compilers and of pretraining."""
        return self.root / "logs"

    def key(self, path: Path) -> bytes:
        """A file of `pki`; raises MissingFile."""
        try:
            return path.read_bytes()
        except OSError as error:
            msg = f"cannot read {path}: {error.strerror}; run: reefleet coordinator init"
            raise MissingFile(msg) from error

    def sweep(self) -> None:
        """Remove what a killed coordinator left half written; only while the folder is held."""
        for path in self.blobs.rglob(".tmp-*"):
            path.unlink(missing_ok=True)
        for path in self.root.glob(f"{PRETRAIN_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other coordinators out of this folder; raises StoreError where one is running."""
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                msg = f"another coordinator is serving {self.root}; stop it first"
                raise StoreError(msg) from error
            yield
        finally:
            os.close(handle)  # the lock goes with it, as it does when the process is killed


def create(root: Path, fleet: str, contract: Path | None, public_data: Path | None) -> Folder:
    """Lay down a new coordinator: keys, settings, contract.

    Raises ConfigError where there is one already or the contract is wrong, MissingFile for a file
    that is not there.
    """
    folder = Folder(root)
    if folder.config.exists():
        msg = f"{folder.config} exists; a coordinator is not set up twice"
        raise ConfigError(msg)
    if contract:
        read_contract(contract)
    if public_data and not public_data.is_file():
        msg = f"there is no public data file {public_data}"
        raise MissingFile(msg)
    pki = folder.ca_cert.parent
    pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate, key = create_authority(fleet)
    write_atomic(folder.ca_key, key)
    write_atomic(folder.ca_cert, certificate)
    write_atomic(folder.manifest_key, new_manifest_key())
    if contract:
        write_atomic(folder.contract, contract.read_bytes())
    settings = template(fleet, public_data.resolve() if public_data else None)
    write_atomic(folder.config, settings.encode())  # last: a folder with settings is whole
    return folder
