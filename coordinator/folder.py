"""A coordinator's folder: what `init` lays down once, and where everything lies afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.config import CONFIG_NAME, read_contract, template
from reefleet.blobs import write_atomic
from reefleet.errors import ConfigError, DamagedFile, InputError, MissingFile, StoreError
from reefleet.rpc.identity import (
    certificate_facts,
    create_authority,
    issue_operator,
    manifest_public_key,
    new_manifest_key,
)
from reefleet.rpc.operator import LISTENING_NAME

PRETRAIN_PREFIX = "pretrain-"
OPERATOR_NAME = "operator"
OPERATOR_SPARE_S = 30 * 86400.0
TOKEN_BYTES = 24


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
    def operator_cert(self) -> Path:
        """Whose bearer may operate the coordinator, together with its key."""
        return self.root / "pki" / "operator.pem"

    @property
    def operator_key(self) -> Path:
        """The key of the operator's certificate."""
        return self.root / "pki" / "operator.key"

    @property
    def invitation(self) -> Path:
        """What `init --invite` leaves for the first devices; secret while it is good."""
        return self.root / "invitation.json"

    @property
    def web_token(self) -> Path:
        """The token that the built-in page asks for where it is reached from elsewhere."""
        return self.root / "pki" / "web.token"

    @property
    def database_password(self) -> Path:
        """The password of the database server, where the settings leave it out."""
        return self.root / "pki" / "database.password"

    @property
    def listening(self) -> Path:
        """Where the coordinator listens, written by each start."""
        return self.root / LISTENING_NAME

    @property
    def state(self) -> Path:
        """The SQLite file, where the settings name no other database."""
        return self.root / "state.db"

    @property
    def blobs(self) -> Path:
        """Files by digest."""
        return self.root / "blobs"

    @property
    def logs(self) -> Path:
        """Stderr of compilers and of pretraining; in systemd's LogsDirectory where it gives one."""
        return Path(os.environ.get("LOGS_DIRECTORY", self.root / "logs"))

    def key(self, path: Path) -> bytes:
        """A file of `pki`, or systemd's credential of that name; raises MissingFile."""
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        if given and (Path(given) / path.name).is_file():
            path = Path(given) / path.name
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
        try:
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            msg = f"{self.root} cannot be written: {error.strerror}"
            raise StoreError(msg) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                msg = f"another coordinator is serving {self.root}; stop it first"
                raise StoreError(msg) from error
            yield
        finally:
            os.close(handle)  # the lock goes with it, as it does when the process is killed


def check_keys(folder: Folder) -> None:
    """Raise DamagedFile with the name of a key or certificate that is none, MissingFile too."""
    certificate, key = folder.key(folder.ca_cert), folder.key(folder.ca_key)
    signing = folder.key(folder.manifest_key)
    with _named(folder.ca_cert):
        certificate_facts(certificate)
    with _named(folder.ca_key):
        issue_operator(certificate, key, OPERATOR_NAME)
    with _named(folder.manifest_key):
        manifest_public_key(signing)


def see_to_keys(folder: Folder, now: float) -> None:
    """Raise what is wrong with the keys, and renew the operator's certificate where it is due."""
    check_keys(folder)
    renew_operator(folder, now)


def make_operator(folder: Folder) -> None:
    """Issue the operator's certificate anew."""
    authority = folder.key(folder.ca_cert), folder.key(folder.ca_key)
    certificate, key = issue_operator(*authority, OPERATOR_NAME)
    write_atomic(folder.operator_key, key)
    write_atomic(folder.operator_cert, certificate)


def web_token(folder: Folder) -> str:
    """The token that lets people see the built-in page; made where there is none."""
    if not folder.web_token.is_file():
        write_atomic(folder.web_token, f"{secrets.token_urlsafe(TOKEN_BYTES)}\n".encode())
    return folder.key(folder.web_token).decode().strip()


def renew_operator(folder: Folder, now: float) -> None:
    """See that the operator's certificate is there and good for some weeks at wall time `now`."""
    if folder.operator_cert.is_file() and _ends_at(folder.operator_cert) - now > OPERATOR_SPARE_S:
        return
    make_operator(folder)


def create(root: Path, fleet: str, contract: Path | None, public_data: Path | None) -> Folder:
    """Lay down a new coordinator: keys, settings, contract.

    Without a contract one follows from the public data, where there are any. Raises ConfigError
    where there is a coordinator already or the contract is wrong, MissingFile for a file that is
    not there.
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
    described = contract.read_bytes() if contract else _derived(public_data)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)  # names of devices are in it
    pki = folder.ca_cert.parent
    pki.mkdir(mode=0o700, exist_ok=True)
    certificate, key = create_authority(fleet)
    write_atomic(folder.ca_key, key)
    write_atomic(folder.ca_cert, certificate)
    write_atomic(folder.manifest_key, new_manifest_key())
    make_operator(folder)
    web_token(folder)
    if described:
        write_atomic(folder.contract, described)
    settings = template(fleet, public_data.resolve() if public_data else None)
    write_atomic(folder.config, settings.encode())  # last: a folder with settings is whole
    return folder


def _derived(public_data: Path | None) -> bytes:
    if public_data is None:
        return b""
    from reefleet.datasets.contract import contract_for

    return f"{json.dumps(contract_for(public_data).to_json(), indent=2)}\n".encode()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        msg = f"{path}: {error}; take it from a backup"
        raise DamagedFile(msg) from error


def _ends_at(certificate: Path) -> float:
    """When a certificate ends; long ago where the file is damaged."""
    try:
        return certificate_facts(certificate.read_bytes()).ends_at
    except InputError:
        return 0.0
