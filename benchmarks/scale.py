"""What operators wait for in a fleet of ten thousand devices: each command, timed as a process.

    python benchmarks/scale.py --devices 10000 --rounds 3

The state is written straight into a new database; the coordinator and the commands are real
processes over mutual TLS. A command is within the second where it is by the clock or, on a machine
that is busy with something else, by the processor time of both ends. Exit code 1 where one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import insert

from coordinator import records as r
from coordinator.config import read_config
from coordinator.folder import Folder, create
from coordinator.state import state_address
from coordinator.store import Store
from coordinator.store import schema as t
from reefleet.model import ModelContract, ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan

REEFLEET = (sys.executable, "-m", "reefleet", "coordinator")
FLOOR_S = 1.0
IDLE_SHARE = 0.05  # of a processor
SPEC = ModelSpec(
    image_size=28, patch_size=7, channels=1, width=96, heads=3, depth=6, classes=10,
    exits=(2, 4, 6), ree_heads=2, ree_width=16,
)  # fmt: skip
CONTRACT = ModelContract(SPEC, Preprocessing(28, 1, 0.5, 0.5), tuple("0123456789"))
PLAN = SubmodelPlan(4, 8, 16, 1, 1, "int8", ("depth 6 breaks the deadline of 600 s",) * 4)
PROFILE = {
    "board": "rpi-4b", "memory_available_mib": 3000, "cores": 4, "storage_free_bytes": 1 << 34,
    "runtimes": {"onnxruntime": "1.31.0"}, "isa": ["neon"], "train_samples": 400,
}  # fmt: skip
METRICS = {"loss": 0.5, "shared_accuracy": [0.5, 0.6, 0.7], "train_seconds": 61.0}
SETTINGS = """
[listen]
host = "127.0.0.1"
fleet_port = 0
enrollment_port = 0
[rounds]
total = 1000000
min_devices = 1000000
"""


HEAD = """\
| command | s | processor s of the command | of the daemon | lines | within 1 s |
| --- | --- | --- | --- | --- | --- |"""


class Timed(NamedTuple):
    """One run of a command."""

    seconds: float
    processor_s: float
    lines: int


def name_of(number: int) -> str:
    """A device's name."""
    return f"shed-{number:05d}"


def fill(store: Store, devices: int, rounds: int) -> None:
    """Write a fleet and what it has done."""
    blob, now = r.Artifact("ab" * 32, 5_000_000), time.time()
    store.add_bundle(r.Bundle("key", blob, b"signature", (blob,)))
    store.add_version(r.Version(0, blob, now))
    fleet = [device_row(number, now) for number in range(devices)]
    with store._write() as connection:  # noqa: SLF001  # no command enrolls thousands at once
        connection.execute(insert(t.devices), fleet)
    for number in range(1, rounds + 1):
        opened = now - 3600.0 * (rounds - number + 1)
        store.add_round(r.Round(number, number - 1, r.OPEN, devices, opened, now), [])
        with store._write() as connection:  # noqa: SLF001
            connection.execute(
                insert(t.assignments), [work_row(number, i, opened) for i in range(devices)]
            )
            connection.execute(
                insert(t.updates), [update_row(number, i, opened) for i in range(devices)]
            )
        store.stop_round(number, "quorum")
        store.close_round(number, opened + 600.0, r.Version(number, blob, opened + 600.0))


def device_row(number: int, now: float) -> dict[str, Any]:
    """A device with a profile and a plan."""
    return {
        "device_id": name_of(number), "serial": f"{number:x}", "fingerprint": f"{number:064x}",
        "enrolled_at": now, "last_seen_at": now, "profile": json.dumps(PROFILE),
        "plan": json.dumps(PLAN.to_json()), "bundle_key": "key", "certificate_ends_at": now + 1e6,
    }  # fmt: skip


def work_row(number: int, device: int, at: float) -> dict[str, Any]:
    """What a device did in a round."""
    return {
        "lease": f"{number:016x}{device:016x}", "kind": r.FEDERATE, "round": number,
        "device_id": name_of(device), "plan": json.dumps(PLAN.to_json()),
        "base_version": number - 1, "manifest_sha256": "ab" * 32, "manifest_bytes": 5_000,
        "signature": b"signature", "weights_sha256": "ab" * 32, "weights_bytes": 5_000_000,
        "opened_at": at, "state": r.COMMITTED,
    }  # fmt: skip


def update_row(number: int, device: int, at: float) -> dict[str, Any]:
    """What came of it."""
    return {
        "lease": f"{number:016x}{device:016x}", "round": number, "device_id": name_of(device),
        "sha256": "cd" * 32, "size_bytes": 1_300_000, "samples": 400, "depth": 4,
        "metrics": json.dumps(METRICS), "accepted_at": at + 60.0, "loss": 0.5,
        "base_version": number - 1, "folded_in": number,
    }  # fmt: skip


def commands(folder: Path, devices: int, rounds: int) -> dict[str, tuple[str, ...]]:
    """What is timed, by the name it has in the table."""
    some = name_of(devices // 2)
    return {
        "status": ("status",),
        "devices": ("devices",),
        "devices --json": ("devices", "--json"),
        "device ID": ("device", some),
        "rounds": ("rounds",),
        f"round {rounds}": ("round", str(rounds)),
        "versions": ("versions",),
        "plan": ("plan",),
        "deployments": ("deployments",),
        "pause": ("pause",),
        "resume": ("resume",),
        "token new": ("token", "new", "--uses", "5", "--ttl", "24h"),
        "revoke": ("revoke", name_of(1)),
        "export-metrics": ("export-metrics", "--out", str(folder / "metrics.jsonl")),
    }


def timed(folder: Folder, arguments: tuple[str, ...]) -> Timed:
    """Run a command once."""
    command = [*REEFLEET, *arguments, "--dir", str(folder.root)]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True)
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timed(seconds, used, done.stdout.count(b"\n"))


def used_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle(pid: int) -> None:
    """Wait until a process has nothing to do."""
    used = -1.0
    while used_s(pid) - used > IDLE_SHARE:
        used = used_s(pid)
        time.sleep(1.0)


def written(root: Path, options: argparse.Namespace) -> Folder:
    """A coordinator's folder whose state is filled."""
    described = root / "contract.json"
    described.write_text(json.dumps(CONTRACT.to_json()))
    folder = create(root / "fleet", "barn", described, None)
    folder.config.write_text(f'database = "{options.database}"{SETTINGS}')
    store = Store(state_address(folder, read_config(folder.root)))
    begin = time.monotonic()
    fill(store, options.devices, options.rounds)
    store.close()
    took = time.monotonic() - begin
    print(f"{options.devices} devices, {options.rounds} rounds: written in {took:.1f} s")
    return folder


def measure(root: Path, options: argparse.Namespace) -> bool:
    """Print a line a command; whether all are within the floor."""
    folder, begin = written(root, options), time.monotonic()
    serve = subprocess.Popen(
        [*REEFLEET, "serve", str(folder.root)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    good = True
    try:
        if serve.stdout:
            serve.stdout.readline()
        settle(serve.pid)  # it looks at rounds that closed before, once
        begun = f"{time.monotonic() - begin:.2f} s, {used_s(serve.pid):.2f} s of processor"
        print(f"serve: listens, and has looked back, after {begun}\n")
        print(HEAD)
        for name, arguments in commands(root, options.devices, options.rounds).items():
            before = used_s(serve.pid)
            runs = [timed(folder, arguments) for _ in range(options.repeats)]
            daemon = (used_s(serve.pid) - before) / len(runs)
            good &= _print(name, runs, daemon)
    finally:
        serve.terminate()
        serve.wait()
    return good


def _print(name: str, runs: list[Timed], daemon_s: float) -> bool:
    wall = statistics.median(run.seconds for run in runs)
    command = statistics.median(run.processor_s for run in runs)
    # On a machine that does nothing else the two processes' time is the time to wait.
    is_quick = min(wall, command + daemon_s) <= FLOOR_S
    print(
        f"| {name} | {wall:.2f} | {command:.2f} | {daemon_s:.2f} | {runs[0].lines} "
        f"| {'yes' if is_quick else 'MISS'} |",
        flush=True,
    )
    return is_quick


def main() -> int:
    """Build, serve, time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--database", default="", help="a PostgreSQL URL; default: a file")
    options = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
    with tempfile.TemporaryDirectory() as name:
        return 0 if measure(Path(name), options) else 1


if __name__ == "__main__":
    sys.exit(main())
