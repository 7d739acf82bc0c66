"""How long planning a fleet takes: ten thousand devices, no two alike, and twelve exits.

Run it with `python benchmarks/planner.py`; figures are of the machine it runs on.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from coordinator.planner import Budget
from coordinator.planner.fleet import plan_fleet
from coordinator.planner.solve import Decision
from devices import catalog
from devices.profile import DeviceProfile
from reefleet.model import ModelSpec

DEVICES = 10_000
SEED = 0
MODELS = {
    "DeiT-Ti, exits 3 6 9 12": ModelSpec(224, 16, 3, 192, 3, 12, 100, (3, 6, 9, 12)),
    "DeiT-Ti, 12 exits": ModelSpec(224, 16, 3, 192, 3, 12, 100, tuple(range(1, 13))),
}
BUDGET = Budget(latency_ms=150.0, round_mib=64.0, energy_j=4000.0, local_epochs=3)


def fleet(count: int) -> list[DeviceProfile]:
    """Boards of every kind with free memory, disk and data of their own."""
    rng = random.Random(SEED)  # noqa: S311  # a made-up fleet, not a secret
    kinds = [catalog.reference_profile(name) for name in catalog.boards()]
    return [
        replace(
            kind,
            memory_available_mib=int((kind.memory_available_mib or 0) * rng.uniform(0.5, 1.0)),
            storage_free_bytes=rng.randrange(1 << 28, 1 << 34),
            train_samples=rng.randrange(50, 5000),
        )
        for kind in rng.choices(kinds, k=count)
    ]


def main() -> None:
    """Print one line a model."""
    profiles = fleet(DEVICES)
    for name, spec in MODELS.items():
        begin = time.perf_counter()
        busy = time.process_time()
        found = plan_fleet(profiles, spec, BUDGET)
        wall, cpu = time.perf_counter() - begin, time.process_time() - busy
        planned = sum(isinstance(each, Decision) for each in found)
        print(f"{name:<26}{planned} of {DEVICES} planned in {wall:.2f} s ({cpu:.2f} s of CPU)")


if __name__ == "__main__":
    main()
