"""What a round costs the coordinator: time, processor, memory, bytes; the clients do not train.

    python -m benchmarks.rounds --clients 10 50 --rounds 20
    python -m benchmarks.rounds --clients 10 --rounds 100     # is memory flat?

5.8 million float32 weights in 178 tensors, raw. Prints each floor with pass or MISS; with several
numbers of clients also the line that the cost follows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.networks import DEIT_TI
from benchmarks.processes import peak_mib, resident_mib, used_s, verdict
from benchmarks.site import Place, start

SERVER_PEAK_MIB = 200.0
GROWTH = 0.05
SETTLED = 0.2  # of the rounds, before memory has to be flat
DEADLINE_S = 3600.0


@dataclass(frozen=True)
class Cost:
    """Medians over the rounds of one run; `growth` is of resident memory once it has settled."""

    clients: int
    rounds: int
    round_s: float
    server_cpu_s: float
    client_cpu_s: float
    server_peak_mib: float
    server_first_mib: float
    server_last_mib: float
    growth: float
    client_peak_mib: float
    bytes_up: float
    bytes_down: float


def measure(root: Path, clients: int, rounds: int, codec: str = "float32") -> Cost:
    """Run so many rounds with so many client processes."""
    place = Place(root, DEIT_TI, clients, rounds)
    names = [f"c{number:03d}" for number in range(clients)]
    states = [place.enroll(name) for name in names]
    module = ["-m", "benchmarks.untrained_client"]
    with (root / "clients.log").open("ab") as log:
        running = [start([sys.executable, *module, str(state), codec], log) for state in states]
        try:
            return _watched(place, [process.pid for process in running], rounds)
        finally:
            for process in running:
                process.kill()
                process.wait()
                if process.stdout:
                    process.stdout.close()
            place.close()


def _watched(place: Place, clients: list[int], rounds: int) -> Cost:
    server = place.process.pid
    closed_at: list[float] = []
    cpu: list[float] = []
    client_cpu: list[float] = []
    resident: list[float] = []
    peaks = [0.0]
    end = time.monotonic() + DEADLINE_S
    while len(closed_at) < rounds and time.monotonic() < end:
        time.sleep(0.05)
        if len(place.events("Round closed")) > len(closed_at):
            closed_at.append(time.monotonic())
            cpu.append(used_s(server))
            client_cpu.append(sum(map(used_s, clients)))
            resident.append(resident_mib(server))
            peaks = [peak_mib(pid) for pid in clients]
    with place.store() as store:
        sizes = [update.artifact.size_bytes for update in store.updates(rounds)]
        down = [float(update.metrics["bytes_down"]) for update in store.updates(rounds)]
    settled = resident[int(SETTLED * len(resident)) :]
    return Cost(
        clients=len(clients),
        rounds=len(closed_at),
        round_s=_median_step(closed_at),
        server_cpu_s=_median_step(cpu),
        client_cpu_s=_median_step(client_cpu),
        server_peak_mib=peak_mib(server),
        server_first_mib=settled[0],
        server_last_mib=settled[-1],
        growth=_growth(settled),
        client_peak_mib=max(peaks),
        bytes_up=statistics.mean(sizes),
        bytes_down=statistics.mean(down),
    )


def _median_step(values: list[float]) -> float:
    return statistics.median(np.diff(values)) if len(values) > 1 else float("nan")


def _growth(resident: list[float]) -> float:
    """Of a line through the samples: what it rises, as a share of where it begins."""
    if len(resident) < 3:
        return 0.0
    slope, begin = np.polyfit(range(len(resident)), resident, 1)
    return float(slope * (len(resident) - 1) / begin)


def show(cost: Cost) -> bool:
    """Print a run; whether its floors hold."""
    print(f"\n{cost.clients} clients, {cost.rounds} rounds")
    for name, value in asdict(cost).items():
        print(f"  {name:18} {value:,.3f}" if isinstance(value, float) else f"  {name:18} {value}")
    flat = cost.growth < GROWTH
    small = cost.server_peak_mib <= SERVER_PEAK_MIB
    peak = f"server peak {cost.server_peak_mib:.0f} MiB, at most {SERVER_PEAK_MIB:.0f}"
    print(f"  {peak}: {verdict(good=small)}")
    print(f"  memory grows by {cost.growth:.1%}, less than {GROWTH:.0%}: {verdict(good=flat)}")
    return flat and small


def fit(costs: list[Cost]) -> None:
    """Print cost = a + b * clients, and how well that says it."""
    clients = np.array([cost.clients for cost in costs], np.float64)
    for name in ("round_s", "server_cpu_s"):
        found = np.array([getattr(cost, name) for cost in costs])
        slope, begin = np.polyfit(clients, found, 1)
        rest = found - (begin + slope * clients)
        spread = float(((found - found.mean()) ** 2).sum())
        share = 1 - float((rest**2).sum()) / spread if spread else 1.0
        print(f"{name} = {begin:.3f} + {slope:.4f} * clients, r2 = {share:.3f}")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[10])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--codec", default="float32")
    options = parser.parse_args()
    costs = []
    good = True
    with tempfile.TemporaryDirectory() as name:
        for clients in options.clients:
            costs.append(measure(Path(name) / str(clients), clients, options.rounds, options.codec))
            good &= show(costs[-1])
    if len(costs) > 1:
        fit(costs)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
