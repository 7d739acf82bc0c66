"""How long planning a fleet takes: ten thousand devices, no two alike, and twelve exits.

In the last line each device was timed too, so that it is planned by its own speed.

Run it with `python benchmarks/planner.py`; figures are of the machine it runs on.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from coordinator.planner import Budget
from coordinator.planner.fleet import plan_fleet
from coordinator.planner.solve import Decision
from devices import catalog, cost
from devices.cost import Rates
from devices.probe_models import DEPTHS, PROBES, STEPS
from devices.profile import DeviceProfile, Timing
from devices.speed import Speed
from reefleet.model import ModelSpec

DEVICES, KINDS = 10_000, 200
SEED = 0
SPEED = Speed((0.05, 1.9, 0.2, 1.8), 0.1, (0.2, 10.0, 2.5, 0.4, 0.18, 0.5, 30.0, 7.0), 0.1, 2.0)
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


def timed(profiles: list[DeviceProfile]) -> list[DeviceProfile]:
    """The devices with a benchmark of their own."""
    rng = random.Random(SEED)  # noqa: S311
    rates = Rates(1.0, 0.1, 1.0, 1.0, measured=SPEED)
    answers = [(n, d, cost.answer_ms(s, d, rates).value) for n, s in PROBES.items() for d in DEPTHS]
    steps = [
        (n, d, b, m, w, cost.train_step_ms(PROBES[n], d, m, w, b, rates).value)
        for n, d, b, m, w in STEPS
    ]

    def timings(slower: float) -> tuple[Timing, ...]:
        found = [Timing("answer", n, d, 1, slower * ms, 0.02) for n, d, ms in answers]
        for n, d, b, m, w, ms in steps:
            work = "train" if m == 1 else f"train-2-{w}"
            found.append(Timing(work, n, d, b, slower * ms, 0.02))
        return tuple(found)

    kinds = [timings(rng.uniform(1.0, 40.0)) for _ in range(KINDS)]
    return [replace(profile, timings=rng.choice(kinds)) for profile in profiles]


def main() -> None:
    """Print one line a model."""
    profiles = fleet(DEVICES)
    for name, spec in MODELS.items():
        report(name, profiles, spec)
    report("DeiT-Ti, exits 3 6 9 12, timed", timed(profiles), MODELS["DeiT-Ti, exits 3 6 9 12"])


def report(name: str, profiles: list[DeviceProfile], spec: ModelSpec) -> None:
    """Plan and print."""
    begin = time.perf_counter()
    busy = time.process_time()
    found = plan_fleet(profiles, spec, BUDGET)
    wall, cpu = time.perf_counter() - begin, time.process_time() - busy
    planned = sum(isinstance(each, Decision) for each in found)
    print(f"{name:<32}{planned} of {DEVICES} planned in {wall:.2f} s ({cpu:.2f} s of CPU)")


if __name__ == "__main__":
    main()
