"""Our rounds beside Flower's, in one run on one machine: time, processor, memory, bytes.

    python -m benchmarks.peers --clients 10 --rounds 8
    python -m benchmarks.peers --clients 10 --rounds 8 --superlink 2

Flower is installed in an environment of its own under .cache/. Its legacy stream speaks plain TCP,
ours mutual TLS; its clients, like ours, do not train. A machine that does other work makes every
figure larger: the ratios are what counts.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import rounds
from benchmarks.flower_superlink import superlink
from benchmarks.processes import peak_mib, used_s, verdict
from benchmarks.site import ROOT

FLOWER = "flwr==1.41.0"
PLACE = ROOT / ".cache" / "peers"
STREAM = Path(__file__).with_name("flower_stream.py")
STREAM_TIME, STREAM_CPU, SUPERLINK_TIME = 0.55, 0.5, 1 / 40


@dataclass(frozen=True)
class Peer:
    """Medians over the rounds of a run of Flower."""

    round_s: float
    server_cpu_s: float
    server_peak_mib: float
    client_peak_mib: float


def environment() -> Path:
    """Flower's Python; the environment is made where it is not there."""
    python = PLACE / "bin" / "python"
    if not python.exists():
        venv.create(PLACE, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", FLOWER], check=True)
    return python


def stream(clients: int, count: int) -> Peer:
    """Rounds over `start_server` and `start_client`."""
    python, port = environment(), _free_port()
    with tempfile.TemporaryFile() as log:
        serve = [str(python), str(STREAM), "server", port, str(clients), str(count)]
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log)
        command = [str(python), str(STREAM), "client", port]
        working = [
            subprocess.Popen([*command, str(number)], stdout=log, stderr=log)
            for number in range(clients)
        ]
        try:
            return _watched(server, [process.pid for process in working])
        finally:
            for process in [server, *working]:
                process.kill()
                process.wait()
            if server.stdout:
                server.stdout.close()


def _watched(server: subprocess.Popen[bytes], clients: list[int]) -> Peer:
    at: list[float] = []
    cpu: list[float] = []
    peaks = [0.0]
    for line in server.stdout or ():
        told = json.loads(line) if line.startswith(b"{") else {}
        if "round" in told:
            at.append(time.monotonic())
            cpu.append(used_s(server.pid))
            peaks = [peak_mib(pid) for pid in clients]
            peak = peak_mib(server.pid)
    steps = np.diff(at), np.diff(cpu)
    return Peer(statistics.median(steps[0]), statistics.median(steps[1]), peak, max(peaks))


def _free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def main() -> int:
    """Measure both, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--superlink", type=int, default=0, metavar="ROUNDS", help="0: leave it")
    options = parser.parse_args()
    peer = stream(options.clients, options.rounds)
    with tempfile.TemporaryDirectory() as name:
        ours = rounds.measure(Path(name) / "ours", options.clients, options.rounds)
    again = stream(options.clients, options.rounds)  # the load may have changed meanwhile
    print(f"{options.clients} clients, {options.rounds} rounds, raw float32")
    print("| | s a round | server processor s | server peak MiB | client peak MiB |")
    print("| --- | --- | --- | --- | --- |")
    _row("Flower stream", peer)
    _row("Flower stream, again", again)
    mine = Peer(ours.round_s, ours.server_cpu_s, ours.server_peak_mib, ours.client_peak_mib)
    _row("Reefleet", mine)
    floors = [
        ("time / stream", mine.round_s / _mean(peer, again, "round_s"), STREAM_TIME),
        ("processor / stream", mine.server_cpu_s / _mean(peer, again, "server_cpu_s"), STREAM_CPU),
    ]
    if options.superlink:
        slow = superlink(environment(), options.clients, options.superlink)
        print(f"| Flower SuperLink | {slow:.1f} | | | |")
        floors.append(("time / SuperLink", mine.round_s / slow, SUPERLINK_TIME))
    for name, ratio, most in floors:
        print(f"{name}: {ratio:.3f}, at most {most:.3f}: {verdict(good=ratio <= most)}")
    small = mine.server_peak_mib <= rounds.SERVER_PEAK_MIB
    print(f"server peak at most {rounds.SERVER_PEAK_MIB:.0f} MiB: {verdict(good=small)}")
    return 0 if small and all(ratio <= most for _, ratio, most in floors) else 1


def _row(name: str, found: Peer) -> None:
    figures = f"{found.round_s:.2f} | {found.server_cpu_s:.2f} | {found.server_peak_mib:.0f}"
    print(f"| {name} | {figures} | {found.client_peak_mib:.0f} |")


def _mean(one: Peer, other: Peer, name: str) -> float:
    return float(getattr(one, name) + getattr(other, name)) / 2


if __name__ == "__main__":
    sys.exit(main())
