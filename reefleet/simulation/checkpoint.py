"""A run on disk between rounds: one safetensors file, replaced atomically, and metric lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.blobs import write_atomic
from reefleet.errors import ConfigError, DamagedFile

FILE = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
RESULT = "result.json"

Arrays = dict[str, NDArray[np.float32]]


@dataclass(slots=True)
class Progress:
    """All that a run has come to: rounds done, arrays, clients' states, metric lines, figures."""

    rounds: int = 0
    model: Arrays = field(default_factory=dict)
    memory: Arrays = field(default_factory=dict)
    clients: dict[int, Arrays] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    personal: list[dict[str, Any]] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0


def save(folder: Path, progress: Progress, fingerprint: str) -> None:
    """Write the run's state, then its metric lines; a kill between the two loses nothing."""
    from safetensors.numpy import save as pack

    arrays = {f"model/{name}": value for name, value in progress.model.items()}
    arrays |= {f"memory/{name}": value for name, value in progress.memory.items()}
    for number, state in progress.clients.items():
        arrays |= {f"client/{number}/{name}": value for name, value in state.items()}
    facts = {
        "rounds": progress.rounds,
        "lines": progress.lines,
        "personal": progress.personal,
        "bytes_up": progress.bytes_up,
        "bytes_down": progress.bytes_down,
        "seconds": progress.seconds,
        "fingerprint": fingerprint,
    }
    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    write_atomic(folder / FILE, pack(whole, {"facts": json.dumps(facts)}))
    lines = "".join(json.dumps(line) + "\n" for line in progress.lines)
    write_atomic(folder / METRICS, lines.encode())


def load(folder: Path, fingerprint: str) -> Progress | None:
    """What `save` wrote, or None; raises DamagedFile, or ConfigError for another experiment's."""
    path = folder / FILE
    if not path.exists():
        return None
    arrays, facts = _read(path)
    if facts.pop("fingerprint") != fingerprint:
        msg = f"{folder} holds a run of another experiment; choose another --out"
        raise ConfigError(msg)
    progress = Progress(**facts)
    for key, value in arrays.items():
        kind, _, name = key.partition("/")
        if kind == "client":
            number, _, name = name.partition("/")
            progress.clients.setdefault(int(number), {})[name] = value
        else:
            (progress.model if kind == "model" else progress.memory)[name] = value
    return progress


def shared_model(folder: Path) -> Arrays:
    """The shared model of a run, whichever experiment it is of; raises DamagedFile."""
    arrays, _ = _read(folder / FILE)
    kept = ((key.partition("/"), value) for key, value in arrays.items())
    return {name: value for (kind, _, name), value in kept if kind == "model"}


def _read(path: Path) -> tuple[Mapping[str, NDArray[Any]], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata: Mapping[str, str] = file.metadata()
            return {n: file.get_tensor(n) for n in file.keys()}, json.loads(metadata["facts"])  # noqa: SIM118  # safe_open gives no iterator
    except (SafetensorError, KeyError, ValueError) as error:
        msg = f"{path} is damaged: {error}; remove it to start the run anew"
        raise DamagedFile(msg) from error
