"""Finished work on its way out: a folder an update, complete from the moment it is visible.

An entry is built beside and renamed in, so a crash leaves all of it or nothing. It carries what is
to be adopted later too: the personal state at once, the residual once the coordinator has said
"durable". Each step can be repeated.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_client.folder import sync
from edge_client.task import Artifact
from edge_client.transfer import Reader
from reefleet.blobs import digest_of, sha256_hex, write_atomic
from reefleet.errors import DamagedFile, WireError
from reefleet.report import DeviceMetrics
from reefleet.wire.chunks import Bytes

logger = logging.getLogger(__name__)

FORMAT = 1
ENTRY_FILE = "entry.json"
UPDATE_FILE = "update.rft"
STATE_FILE = "state.safetensors"
RESIDUAL_FILE = "residual.safetensors"
_HIDDEN = "."


@dataclass(frozen=True, slots=True)
class Entry:
    """One update that is not acknowledged yet, and what lies beside it in `folder`."""

    folder: Path
    lease: str
    round: int
    samples: int
    metrics: DeviceMetrics
    update: Artifact

    @property
    def state_file(self) -> Path:
        """Personal state of this work; gone once adopted."""
        return self.folder / STATE_FILE

    @property
    def residual_file(self) -> Path:
        """What coding this update lost; gone once adopted."""
        return self.folder / RESIDUAL_FILE

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Reads the update's bytes; raises DamagedFile where the disk has changed them."""
        try:
            stream = (self.folder / UPDATE_FILE).open("rb", 0)
        except OSError as error:
            msg = f"the update of lease {self.lease} cannot be read: {error.strerror}"
            raise DamagedFile(msg) from error

        def read(offset: int, size: int) -> Bytes:
            return os.pread(stream.fileno(), size, offset)

        with stream:
            if digest_of(stream) != self.update.sha256:
                msg = f"the update of lease {self.lease} has been altered on disk"
                raise DamagedFile(msg)
            yield read


@dataclass(frozen=True, slots=True)
class Outbox:
    """The entries under `folder`."""

    folder: Path

    def begin(self, lease: str) -> Path:
        """An empty folder to build the entry of `lease` in; earlier attempts are thrown away."""
        building = self.folder / f"{_HIDDEN}{lease}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        return building

    def commit(
        self,
        lease: str,
        update: Sequence[Bytes],
        metrics: DeviceMetrics,
        *,
        round_number: int,
        samples: int,
    ) -> Entry:
        """Add the parts of the update to what was built and make the entry visible, durably."""
        building, final = self.folder / f"{_HIDDEN}{lease}", self.folder / lease
        artifact = Artifact(sha256_hex(*update), sum(map(len, update)))
        write_atomic(building / UPDATE_FILE, *update)
        facts = {
            "format": FORMAT,
            "lease": lease,
            "round": round_number,
            "samples": samples,
            "metrics": metrics.to_json(),
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
        }
        write_atomic(building / ENTRY_FILE, json.dumps(facts).encode())
        building.rename(final)
        sync(self.folder)
        return Entry(final, lease, round_number, samples, metrics, artifact)

    def pending(self) -> list[Entry]:
        """Complete entries, oldest round first; leftovers and damaged entries are removed."""
        if not self.folder.is_dir():
            return []
        entries = []
        for folder in sorted(self.folder.iterdir()):
            if folder.name.startswith(_HIDDEN):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                entries.append(_read(folder))
            except (DamagedFile, WireError) as error:
                logger.warning("damaged work dropped", extra={"reason": str(error)})
                shutil.rmtree(folder, ignore_errors=True)
        return sorted(entries, key=lambda entry: entry.round)

    def drop(self, entry: Entry) -> None:
        """Forget an entry; hidden first, so that half a removal is never taken for an entry."""
        hidden = self.folder / f"{_HIDDEN}{entry.lease}"
        shutil.rmtree(hidden, ignore_errors=True)
        entry.folder.rename(hidden)
        shutil.rmtree(hidden)
        sync(self.folder)


def _read(folder: Path) -> Entry:
    try:
        facts: Mapping[str, Any] = json.loads((folder / ENTRY_FILE).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT or facts["lease"] != folder.name:
            msg = f"{folder} is not an entry of this format"
            raise DamagedFile(msg)
        return Entry(
            folder,
            str(facts["lease"]),
            int(facts["round"]),
            int(facts["samples"]),
            DeviceMetrics.from_json(facts["metrics"]),
            Artifact(str(facts["sha256"]), int(facts["size_bytes"])),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{folder} holds no readable entry: {error}"
        raise DamagedFile(msg) from error
