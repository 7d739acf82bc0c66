"""An operator's line to a running coordinator, from the files that `coordinator init` made.

A folder is enough: the coordinator's own, or a copy of its `pki` on another machine together with
the address.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from reefleet.errors import MissingFile
from reefleet.rpc import channel, status
from reefleet.rpc.identity import Identity
from reefleet.rpc.limits import CALL_TIMEOUT_S
from reefleet.v1 import operator_pb2_grpc

LISTENING_NAME = "listening.json"
_FILES = ("operator.pem", "operator.key", "ca.pem")


class OperatorLine:
    """Calls to the OperatorService at `address`; what it refuses is raised as a ReefleetError."""

    def __init__(self, address: str, identity: Identity) -> None:
        """Make the channel; it connects with the first call."""
        self._address = address
        self._channel = channel.fleet_channel(address, identity)
        self._stub = operator_pb2_grpc.OperatorServiceStub(self._channel)

    def ask(self, method: str, request: Message) -> Any:
        """Call one method by its name in the protocol and give its answer."""
        return self.begin(method, request)()

    def begin(self, method: str, request: Message) -> Callable[[], Any]:
        """Call one method without waiting; what comes back waits for its answer."""
        call: Any = getattr(self._stub, method)
        under_way = call.future(request, timeout=CALL_TIMEOUT_S)

        def answer() -> Any:
            with status.translated(self._address):
                return under_way.result()

        return answer

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


@contextmanager
def operator_line(folder: Path, address: str = "") -> Iterator[OperatorLine]:
    """A line with the operator's certificate in `folder`; '' reads the address there too.

    Raises MissingFile where a file is not there.
    """
    identity = _identity(folder)
    line = OperatorLine(address or _address(folder), identity)
    try:
        yield line
    finally:
        line.close()


def enrollment_address(folder: Path, address: str = "") -> str:
    """Where devices enroll with the coordinator of `folder`, at the host of `address` if given.

    Raises MissingFile where it does not serve.
    """
    told = _listening(folder)
    host = (address or str(told["address"])).rpartition(":")[0]
    return f"{host}:{told['enrollment_port']}"


def authority(folder: Path) -> bytes:
    """The fleet's CA certificate, PEM; raises MissingFile."""
    return _identity(folder).ca


def _identity(folder: Path) -> Identity:
    pki = folder / "pki" if (folder / "pki").is_dir() else folder
    certificate, key, ca = (_read(pki / name) for name in _FILES)
    return Identity(certificate, key, ca)


def _address(folder: Path) -> str:
    return str(_listening(folder)["address"])


def _listening(folder: Path) -> dict[str, Any]:
    path = folder / LISTENING_NAME
    if not path.is_file():
        msg = (
            f"{path} does not say where the coordinator listens; give --server HOST:PORT, or "
            f"start it: reefleet coordinator serve {folder}"
        )
        raise MissingFile(msg)
    found: dict[str, Any] = json.loads(_read(path))
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = (
            f"cannot read {path}: {error.strerror}; name the coordinator's folder with --dir, "
            f"or make one: reefleet coordinator init {path.parent.parent}"
        )
        raise MissingFile(msg) from error
