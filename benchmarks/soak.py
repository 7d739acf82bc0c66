"""A long run in which everything goes wrong at random, and every promise is checked at its end.

    python -m benchmarks.soak --minutes 30

A coordinator and training clients as real processes, a TCP proxy between them. Coordinator and
clients are killed, connections are cut, clients and the link are slowed. Exit code 1 where an
acknowledged update is lost or counted twice, a version goes back, or the database and the blobs
do not go together.
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import resident_mib, verdict
from coordinator import records as r
from coordinator.store import Store
from tests.integration.fleet import WIDE, Rules, Site, a_contract
from tests.integration.proxy import Proxy, Way, let_pass
from tests.integration.running import Program, until

ENDLESS = 1_000_000
QUICK = "min_bits = 2\nmax_bits = 2\nmax_models = 1"
ROUNDS = "quorum = 0.6\ndeadline_s = 20.0"
LONGEST_PAUSE_S = 4.0
LONGEST_STOP_S = 6.0
SLOW_PIECE_S = 0.02
FIRST_ROUND_S = 900.0  # bundles are compiled before it


class Soak:
    """One run; `turn` does one thing wrong."""

    def __init__(self, root: Path, clients: int, seed: int) -> None:
        rules = Rules(2, ENDLESS, QUICK)
        self.site = Site(root / "site", a_contract(WIDE), root / "compiled", rules)
        config = self.site.folder.config
        config.write_text(config.read_text().replace("quorum = 1.0", ROUNDS))
        self.site.start()
        self.proxy = Proxy(self.site.fleet_port)
        names = [f"soaked-{number}" for number in range(clients)]
        self.clients = {name: self.site.client(name, port=self.proxy.port) for name in names}
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.newest = -1
        self.peak_mib = 0.0
        self._rng = random.Random(seed)  # noqa: S311  # which fault comes next is no secret
        self._turns: list[Callable[[], None]] = [
            self._kill_coordinator,
            self._kill_client,
            self._cut,
            self._stop_client,
            self._slow_link,
        ]

    def begin(self) -> None:
        """Start the clients; returns when the first round is open."""
        for client in self.clients.values():
            client.start()
        until(lambda: self.site.has_opened(1), "the first round", FIRST_ROUND_S)

    def turn(self) -> None:
        """Wait a little, break something, look."""
        time.sleep(self._rng.uniform(0.2, LONGEST_PAUSE_S))
        self._rng.choice(self._turns)()
        for client in self.clients.values():
            if client.code is not None:  # it gave up, as it was told to after some failures
                self.done["clients started again"] += 1
                client.start()
        self._look()

    def _kill_coordinator(self) -> None:
        self.done["coordinator killed"] += 1
        self.site.coordinator.kill()
        self.site.start()

    def _kill_client(self) -> None:
        self.done["client killed"] += 1
        client = self._one()
        client.kill()
        client.start()

    def _cut(self) -> None:
        self.done["connections cut"] += 1
        passing = self._rng.randrange(30)
        left = [passing]

        def gate(_way: Way, size: int) -> int:
            left[0] -= 1
            return size if left[0] >= 0 else self._rng.randrange(size)

        with self._gate(gate):
            time.sleep(1.0)

    def _stop_client(self) -> None:
        self.done["client stopped for a while"] += 1
        client = self._one()
        client.send(signal.SIGSTOP)
        time.sleep(self._rng.uniform(1.0, LONGEST_STOP_S))
        client.send(signal.SIGCONT)

    def _slow_link(self) -> None:
        self.done["link slowed"] += 1

        def gate(_way: Way, size: int) -> int:
            time.sleep(SLOW_PIECE_S)
            return size

        with self._gate(gate):
            time.sleep(LONGEST_STOP_S)

    @contextmanager
    def _gate(self, gate: Callable[[Way, int], int]) -> Iterator[None]:
        self.proxy.gate = gate
        try:
            yield
        finally:
            self.proxy.gate = let_pass

    def _one(self) -> Program:
        return self._rng.choice(list(self.clients.values()))

    def _look(self) -> None:
        newest = self.site.latest()
        if newest < self.newest:
            self.wrong.append(f"version {newest} after version {self.newest}")
        self.newest = newest
        self.peak_mib = max(self.peak_mib, resident_mib(self.site.coordinator.pid, "VmHWM"))

    def close(self) -> None:
        """Kill everything."""
        self.site.close()
        self.proxy.close()


def check(soak: Soak) -> dict[str, list[str]]:
    """What is wrong, by promise; run with nothing running any more."""
    site = soak.site
    with site.store() as store:
        updates = store.updates()
        rounds = store.rounds()
        # What was announced and is still on its way is no blob yet.
        coming = {
            found.sha256
            for lease in store.open_leases()
            if (found := store.upload_of(lease).announced)
        }
        needed = store.needed_blobs() - coming
        versions = store.last_versions(ENDLESS)
    held = Counter((update.round, update.device_id) for update in updates)
    told = {
        (int(entry["round"]), name)
        for name, client in soak.clients.items()
        for entry in client.events("update acknowledged")
    }
    closed = [found for found in rounds if found.state == r.CLOSED]
    moved = [found for found in closed if found.result_version != found.base_version]
    return {
        "no acknowledged update is lost": [f"{one}" for one in sorted(told - held.keys())],
        "none is counted twice": [f"{one}" for one, count in held.items() if count > 1],
        "every version is the mean of its round's updates": [
            f"round {found.number}"
            for found in moved
            if _digest(site, found.result_version) != site.recomputed(found.number)
        ],
        "versions are monotone and whole": [
            *soak.wrong,
            *(f"{n}" for n, v in enumerate(versions) if v.number != n),
            *(f"round {f.number}" for f in moved if f.result_version != f.base_version + 1),
        ],
        "the database goes with the blobs": _unread(site, needed) + _damage(store),
    }


def _digest(site: Site, number: int | None) -> str:
    found = site.version(number or 0)
    return found.sha256 if found else ""


def _unread(site: Site, needed: set[str]) -> list[str]:
    missing = []
    for digest in sorted(needed):
        if not site.blobs.has(digest):
            missing.append(digest)
        else:
            site.blobs.read(digest)
    return missing


def _damage(store: Store) -> list[str]:
    if store.address.is_postgresql:
        return []
    with sqlite3.connect(store.address.shown) as connection:
        said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        said += [str(row) for row in connection.execute("PRAGMA foreign_key_check")]
    connection.close()
    return [line for line in said if line != "ok"]


def main() -> int:
    """Soak, check, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new folder for logs and state")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(options.keep or Path(name), options.clients, options.seed)
        try:
            soak.begin()
            end = time.monotonic() + 60.0 * options.minutes
            while time.monotonic() < end:
                soak.turn()
        finally:
            soak.close()
        found = check(soak)
        with soak.site.store() as store:
            rounds, updates = store.rounds_closed(), len(store.updates())
    print(f"{options.minutes:g} minutes, {options.clients} clients, seed {options.seed}")
    print(f"{rounds} rounds, {updates} updates, version {soak.newest}")
    print(f"coordinator's peak: {soak.peak_mib:.0f} MiB")
    print(f"threads of this program at the end: {threading.active_count()}")
    for fault, count in sorted(soak.done.items()):
        print(f"  {fault}: {count}")
    for promise, wrong in found.items():
        print(f"{promise}: {verdict(good=not wrong)} {' '.join(wrong[:5])}")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
