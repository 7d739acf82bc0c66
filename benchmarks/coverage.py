"""How often a round leaves a block without a holder: planned cohorts against uniform ones.

A hundred boards, skewed to small ones as fleets are, get sub-models with twelve exits from the
planner; every chosen device is then lost with some probability. `python benchmarks/coverage.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from coordinator.planner import Budget
from coordinator.planner.explain import explained
from coordinator.planner.fleet import plan_fleet
from coordinator.planner.solve import Decision
from coordinator.records import Device
from coordinator.sampling import cohort, unheld
from devices import catalog
from reefleet.model import ModelSpec

DEPTH = 12
SPEC = ModelSpec(224, 16, 3, 192, 3, DEPTH, 100, tuple(range(1, DEPTH + 1)))
FLEET = {"rpi-zero2w": 45, "rpi-3bplus": 25, "rpi-4b": 18, "rpi-5": 8, "jetson-orin-nano": 4}
BUDGET = Budget(latency_ms=120.0, min_bits=4)
ROUNDS = 5000
COHORTS = (4, 8, 12, 20)
LOSSES = (0.0, 0.1, 0.3)

Draw = Callable[[Sequence[Device], int, int], list[Device]]


def devices() -> list[Device]:
    """The fleet with the planner's sub-models."""
    names = [board for board, count in FLEET.items() for _ in range(count)]
    kinds = {board: catalog.reference_profile(board, train_samples=50) for board in FLEET}
    found = plan_fleet([kinds[name] for name in names], SPEC, BUDGET)
    return [
        Device(f"{name}-{place:03}", "", "", 0.0, plan=explained(decision))
        for place, (name, decision) in enumerate(zip(names, found, strict=True))
        if isinstance(decision, Decision)
    ]


def uniform(ready: Sequence[Device], size: int, seed: int) -> list[Device]:
    """A draw that knows nothing of depths."""
    return random.Random(seed).sample(list(ready), size)  # noqa: S311  # a fair draw, not a secret


def missed(fleet: Sequence[Device], draw: Draw, size: int, loss: float) -> tuple[float, float]:
    """Share of rounds with some unheld block, and share of blocks unheld, over all rounds."""
    rounds = blocks = 0
    for number in range(ROUNDS):
        fate = random.Random(ROUNDS + number)  # noqa: S311  # made-up losses, not a secret
        left = [device for device in draw(fleet, size, number) if fate.random() >= loss]
        empty = len(unheld(left, DEPTH))
        rounds += empty > 0
        blocks += empty
    return rounds / ROUNDS, blocks / (ROUNDS * DEPTH)


def main() -> None:
    """Print the fleet's depths and one line a cohort size and loss."""
    fleet = devices()
    depths = sorted({d.plan.exit_depth for d in fleet if d.plan})
    counted = [f"{sum(d.plan.exit_depth == e for d in fleet if d.plan)} at {e}" for e in depths]
    print(f"{len(fleet)} devices by exit depth: {', '.join(counted)}; {ROUNDS} rounds each")
    print("rounds with a block that nobody holds, and (blocks of all rounds that nobody holds)")
    print(f"{'cohort':>6}{'lost':>7}{'uniform':>20}{'covering':>20}")
    for size in COHORTS:
        for loss in LOSSES:
            cells = [missed(fleet, draw, size, loss) for draw in (uniform, cohort)]
            shown = "".join(f"{f'{r:.1%} ({b:.1%})':>20}" for r, b in cells)
            print(f"{size:>6}{loss:>7.0%}{shown}", flush=True)


if __name__ == "__main__":
    main()
