"""What one look of the scheduler costs in a large fleet: a quiet one, and with a round open.

    python -m benchmarks.looks --devices 100 10000

It looks every few seconds and after every accepted update, so this must not grow with the fleet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import insert

from benchmarks.processes import verdict
from benchmarks.scale import SPEC, fill, work_row
from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import DeploymentPolicy, RoundPolicy
from coordinator.deployments import Deployments
from coordinator.gate import Gate
from coordinator.presence import Presence
from coordinator.rounds import Rounds
from coordinator.store import Store
from coordinator.store import schema as t
from coordinator.versions import Versions
from reefleet.blobs import BlobStore

ROUNDS = 3
LOOKS = 20
MOST_MS = 5.0


def given(store: Store, devices: int, kind: str, number: int, state: str) -> None:
    """Write work of one kind for every device."""
    rows = [
        {
            **work_row(number, device, time.time()),
            "lease": f"{kind[:4]}{number:04x}{device:016x}",
            "kind": kind,
            "base_version": 0,
            "state": state,
        }
        for device in range(devices)
    ]
    with store._write() as connection:  # noqa: SLF001  # no call hands out thousands at once
        connection.execute(insert(t.assignments), rows)


def milliseconds(look: Callable[[], None]) -> float:
    """Processor time of a look, after the first one."""
    look()
    begin = time.process_time()
    for _ in range(LOOKS):
        look()
    return 1000 * (time.process_time() - begin) / LOOKS


def measure(root: Path, devices: int) -> list[tuple[str, float]]:
    """Looks at one fleet, by what they look at."""
    store = Store(root / "state.db")
    with store.held():
        found = _looked(store, root, devices)
    store.close()
    return found


def _looked(store: Store, root: Path, devices: int) -> list[tuple[str, float]]:
    fill(store, devices, ROUNDS)
    clock = Clock()
    versions = Versions(store, BlobStore(root / "blobs"), SPEC)
    presence = Presence(store, clock, RoundPolicy().presence_s)
    gate = Gate(presence, clock)
    rounds = Rounds(store, versions, RoundPolicy(total=ROUNDS), gate, clock)
    deployments = Deployments(versions, DeploymentPolicy(), presence, clock)
    given(store, devices, r.PERSONALIZE, ROUNDS + 1, r.COMMITTED)
    found = [("personal work all done", milliseconds(rounds.advance))]
    store.begin_deployment(r.Deployment(1, ROUNDS, 1.0, r.ROLLING, time.time()), [])
    given(store, devices, r.DEPLOY, 1, r.COMMITTED)
    found.append(("a deployment all have", milliseconds(deployments.advance)))
    end = time.time() + 3600.0
    store.add_round(r.Round(ROUNDS + 1, 0, r.OPEN, devices, time.time(), end), [])
    given(store, devices, r.FEDERATE, ROUNDS + 1, r.OPEN)
    found.append(("a round all work at", milliseconds(rounds.advance)))
    return found


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[100, 10_000])
    good = True
    print("| devices | look at | ms of processor |\n| --- | --- | --- |")
    for devices in parser.parse_args().devices:
        with tempfile.TemporaryDirectory() as name:
            for what, took_ms in measure(Path(name), devices):
                good &= took_ms <= MOST_MS
                print(f"| {devices} | {what} | {took_ms:.2f} |")
    print(f"each takes at most {MOST_MS:.0f} ms: {verdict(good=good)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
