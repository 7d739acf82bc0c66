"""An invitation: one small file with all that a device needs to enroll; secret while it is good."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reefleet.blobs import write_atomic
from reefleet.errors import DamagedFile, MissingFile

MAX_BYTES = 64 << 10
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Invitation:
    """Where to enroll ("host:port"), whom to trust there (PEM), and the token to show."""

    server: str
    ca: str
    token: str

    def write(self, path: Path) -> None:
        """Write it, readable by its owner only."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2)
        write_atomic(path, f"{text}\n".encode())


def read(path: Path) -> Invitation:
    """Read an invitation; raises MissingFile, or DamagedFile for what is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        msg = f"cannot read the invitation {path}: {error.strerror}"
        raise MissingFile(msg) from error
    try:
        values = json.loads(data) if len(data) <= MAX_BYTES else None
        if isinstance(values, dict) and values.pop("format", None) == FORMAT:
            found = Invitation(**values)
            if all(isinstance(value, str) and value for value in asdict(found).values()):
                return found
    except (ValueError, TypeError):
        pass
    msg = f"{path} is no invitation of this version; make one with: reefleet coordinator token new"
    raise DamagedFile(msg)
