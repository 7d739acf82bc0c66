"""The built-in page over ten thousand devices: time and processor time of each page, and memory.

    python benchmarks/page.py --devices 10000 --rounds 3

The page is served in this process over a store that is written straight. Every page is asked for
five times; the middle one counts, with the bytes that a browser gets.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from scale import fill, name_of

from coordinator.clock import Clock
from coordinator.config import CoordinatorConfig, RoundPolicy
from coordinator.presence import Presence
from coordinator.pulse import Pulse
from coordinator.store import Store

TIMES = 5
HEAD = "| page | ms | processor ms | KiB |\n| --- | --- | --- | --- |"


def resident_mib() -> float:
    """What this process holds now."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096 / 2**20


def ask(url: str) -> tuple[float, float, int]:
    """Wall seconds, processor seconds of this process, bytes."""
    wall, processor = time.perf_counter(), time.process_time()
    with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310  # our own server
        size = len(answer.read())
    return time.perf_counter() - wall, time.process_time() - processor, size


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "state.db")
        fill(store, options.devices, options.rounds)
        clock = Clock()
        presence = Presence(store, clock, 600.0)
        before = resident_mib()
        from coordinator.web import open_page
        from coordinator.web.view import Sources

        config = CoordinatorConfig(rounds=RoundPolicy(total=options.rounds + 1))
        sources = Sources(store, clock, presence, Pulse(store.is_member))
        port, stop = open_page(sources, config, "", (b"", b""))
        last = options.devices // 50
        print(f"{options.devices} devices, {options.rounds} rounds of all of them\n\n{HEAD}")
        for path in (
            "/",
            "/devices",
            f"/devices?page={last}",
            f"/devices?q={name_of(options.devices // 2)}",
            "/devices?state=away",
            f"/devices/{name_of(7)}",
            "/rounds",
            f"/rounds/{options.rounds}",
            "/versions",
        ):
            timed = [ask(f"http://127.0.0.1:{port}{path}") for _ in range(TIMES)]
            wall, processor, size = (
                statistics.median(column) for column in zip(*timed, strict=True)
            )
            print(f"| `{path}` | {wall * 1000:.0f} | {processor * 1000:.0f} | {size / 1024:.0f} |")
        print(f"\nmemory for the page: {resident_mib() - before:.1f} MiB resident")
        stop()
        store.close()


if __name__ == "__main__":
    main()
