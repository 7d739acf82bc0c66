"""What a thousand idle devices cost the coordinator: processor and memory, over mutual TLS.

    python -m benchmarks.idle --devices 1000 --settle 660 --measure 120
    python -m benchmarks.idle --clients 50        # real clients instead: what each of them takes

The devices are light: each has its own certificate and connection and asks for work when it is told
to, all in one process. The longer a fleet is idle, the less it asks: cost is read once that has
settled.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.networks import DEIT_TI
from benchmarks.processes import family, peak_mib, resident_mib, share_mib, used_s, verdict
from benchmarks.site import BOARD, Place, start
from coordinator import records as r
from coordinator.config import RoundPolicy
from coordinator.planner import Budget, decide, default_table
from coordinator.planner.explain import explained
from coordinator.planner.options import options_of
from devices import catalog
from devices.capability import capability_of
from reefleet.rpc import channel
from reefleet.rpc.identity import (
    Identity,
    certificate_facts,
    certificate_pem,
    certificate_request,
    issue_device,
    new_key,
)
from reefleet.v1 import fleet_pb2, fleet_pb2_grpc

MOST_SHARE, MOST_MIB, MOST_CLIENT_MIB = 0.01, 200.0, 60.0
NEVER = "min_devices = 1000000"
THREADS = 16


@dataclass
class Device:
    """One connection and what it has been told."""

    stub: fleet_pb2_grpc.FleetServiceStub

    def ask(self) -> float:
        """Ask for work; seconds until the next time."""
        answer = self.stub.NextTask(fleet_pb2.NextTaskRequest(), timeout=60.0)
        return float(answer.wait_ms) / 1000


def admitted(place: Place, count: int) -> list[Identity]:
    """Let devices in, with a plan each, without asking the coordinator a thousand times."""
    authority = place.folder.key(place.folder.ca_cert), place.folder.key(place.folder.ca_key)
    profile = catalog.reference_profile(BOARD, train_samples=100)
    options = options_of(DEIT_TI, Budget(max_models=1), default_table(DEIT_TI))
    plan = explained(decide(capability_of(profile), options))
    found = []
    with place.store() as store:
        for number in range(count):
            name, key = f"idle-{number:04d}", new_key()
            certificate = issue_device(*authority, certificate_request(key), name, 30.0)
            facts = certificate_facts(certificate)
            device = r.Device(name, facts.serial, facts.fingerprint, time.time())
            token = r.Token(f"{number:064x}", name, time.time() + 600.0)
            store.add_token(token)
            store.enroll(device, r.Enrollment(token.sha256, "", name, certificate, time.time()))
            store.set_plan(name, profile.to_json(), plan, "", "")
            found.append(Identity(certificate_pem(certificate), key, authority[0]))
    return found


def keep_asking(devices: list[Device], stopped: threading.Event) -> None:
    """Each device asks when it was told to."""
    due = [(time.monotonic(), number) for number in range(len(devices))]
    lock = threading.Lock()

    def work() -> None:
        while not stopped.is_set():
            with lock:
                at, number = heapq.heappop(due) if due else (time.monotonic() + 0.1, -1)
            if stopped.wait(max(0.0, at - time.monotonic())) or number < 0:
                continue
            wait_s = devices[number].ask()
            with lock:
                heapq.heappush(due, (time.monotonic() + wait_s, number))

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(THREADS):
            pool.submit(work)


def light(root: Path, options: argparse.Namespace) -> bool:
    """Measure with light devices."""
    place = Place(root, DEIT_TI, 1, 1)
    place.close()
    text = place.folder.config.read_text().replace("min_devices = 1", NEVER)
    place.folder.config.write_text(text.replace("poll_ms = 100", "poll_ms = 1000"))
    identities = admitted(place, options.devices)
    place.serve()
    server, address = place.process.pid, f"127.0.0.1:{place.ports['fleet_port']}"
    stopped = threading.Event()
    try:
        time.sleep(10.0)
        alone_mib, alone = resident_mib(server), _share(server, 20.0)
        channels = [channel.fleet_channel(address, identity) for identity in identities]
        devices = [Device(fleet_pb2_grpc.FleetServiceStub(one)) for one in channels]
        asking = threading.Thread(target=keep_asking, args=(devices, stopped))
        asking.start()
        time.sleep(options.settle)
        share, more = _share(server, options.measure), resident_mib(server) - alone_mib
        with place.store() as store:
            present = store.device_counts(time.time() - RoundPolicy().presence_s).present
    finally:
        stopped.set()
        place.close()
    asking.join()
    print(f"{present} of {options.devices} devices present; alone {alone:.2%} of a core", end=", ")
    print(f"{alone_mib:.0f} MiB")
    good = share - alone <= MOST_SHARE, more <= MOST_MIB
    shown = f"processor: {share - alone:.2%} of a core more, at most {MOST_SHARE:.0%}"
    print(f"{shown}: {verdict(good=good[0])}")
    print(f"memory: {more:.0f} MiB more, at most {MOST_MIB:.0f}: {verdict(good=good[1])}")
    return all(good)


def real(root: Path, count: int) -> bool:
    """Start so many real clients that get no work; what each of them takes."""
    place = Place(root, DEIT_TI, 1_000_000, 1)
    data = root / "data.npz"
    np.savez(data, **_few_images())
    running = []
    with (root / "clients.log").open("ab") as log:
        for number in range(count):
            state = place.enroll(f"c{number:03d}")
            (state / "edge.toml").write_text("benchmark_s = 0.0\n")
            command = ["-m", "reefleet", "edge", "run", "--state", str(state), "--data", str(data)]
            running.append(start([sys.executable, *command], log))
    try:
        end = time.monotonic() + 600.0
        while _asking(place) < count and time.monotonic() < end:
            time.sleep(1.0)
        time.sleep(10.0)
        alive = [process for process in running if process.poll() is None]
        several = max(len(family(process.pid)) for process in alive)
        idle = [resident_mib(process.pid) for process in alive]
        shares = [share_mib(process.pid) for process in alive]
        peaks = [peak_mib(process.pid) for process in alive]
        server = peak_mib(place.process.pid)
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        place.close()
    print(f"{len(alive)} of {count} real clients idle, {several} process(es) each")
    print(f"resident: median {statistics.median(idle):.1f}, most {max(idle):.1f} MiB", end="; ")
    print(f"their share with libraries counted once: {statistics.median(shares):.1f} MiB", end="; ")
    print(f"peak {max(peaks):.1f} MiB; coordinator's peak {server:.0f} MiB")
    good = len(alive) == count and max(idle) <= MOST_CLIENT_MIB and several == 1
    print(f"each idles under {MOST_CLIENT_MIB:.0f} MiB in one process: {verdict(good=good)}")
    return good


def _asking(place: Place) -> int:
    with place.store() as store:
        return sum(device.profile is not None for device in store.devices())


def _few_images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 8), ("validation", 4), ("test", 4)):
        arrays[f"{name}_images"] = rng.integers(0, 255, (count, 3, 224, 224), dtype=np.uint8)
        arrays[f"{name}_labels"] = rng.integers(0, 1000, count)
    return arrays


def _share(pid: int, seconds: float) -> float:
    begin, used = time.monotonic(), used_s(pid)
    time.sleep(seconds)
    return (used_s(pid) - used) / (time.monotonic() - begin)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=0, help="real clients instead")
    parser.add_argument("--settle", type=float, default=660.0)
    parser.add_argument("--measure", type=float, default=120.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "place"
        good = real(root, options.clients) if options.clients else light(root, options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
