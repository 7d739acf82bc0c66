"""Files that several subcommands read: JSON objects and the model contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reefleet.errors import DamagedFile, MissingFile
from reefleet.model import ModelContract


def read_contract(path: Path) -> ModelContract:
    """A model contract from its JSON file; raises MissingFile, DamagedFile or ConfigError."""
    return ModelContract.from_json(read_json(path))


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a file; raises MissingFile or DamagedFile."""
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise MissingFile(msg) from error
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise DamagedFile(msg) from error
    if not isinstance(values, dict):
        msg = f"{path} holds no JSON object"
        raise DamagedFile(msg)
    return values
