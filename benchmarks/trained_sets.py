"""What a training step costs by trained set and modulation: multiply-accumulates and time.

MACs are counted in the step's own trace, after what nothing reads has been dropped: forward,
backward and update, a sample. Time is the least CPU time of an eager step on one thread.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import torch

from export.programs import example_inputs, flat_step
from export.trace import trace
from reefleet.learning.network import Network
from reefleet.learning.objectives import Settings
from reefleet.learning.objectives.exits import Recipe, exits_objective
from reefleet.model import ModelSpec, forward_macs

SMALL = ModelSpec(28, 4, 1, 64, 4, 8, 10, (2, 4, 6, 8))
DEIT_S = ModelSpec(224, 16, 3, 384, 6, 12, 100, (3, 6, 9, 12), ree_hidden=518)
CASES = [
    ("plain heads", Network(SMALL, "heads")),
    ("plain heads", Network(SMALL, "heads", trained="frozen")),
    *(
        ("ree", Network(SMALL, modulation=modulation, trained=trained, lora_rank=8))
        for trained in ("full", "lora", "frozen")
        for modulation in ("on", "detached", "off")
    ),
]
STEPS = 12
aten: Any = torch.ops.aten


def macs(graph: torch.fx.Graph) -> int:
    """Multiply-accumulates of the products that the graph's outputs need."""
    graph.eliminate_dead_code()
    total = 0
    for node in graph.nodes:
        if node.target in {aten.mm.default, aten.bmm.default, aten.addmm.default}:
            left = node.args[1 if node.target is aten.addmm.default else 0]
            total += math.prod(node.meta["val"].shape) * left.meta["val"].shape[-1]
    return total


def row(name: str, network: Network, batch: int, steps: int) -> str:
    """One line of the table."""
    spec = network.spec
    objective = exits_objective(Recipe(name, network), spec.depth, 1, Settings())
    inputs = example_inputs(objective, spec, batch)
    step = flat_step(objective)
    counted = macs(trace(step, inputs).graph) / batch
    times = []
    for _ in range(steps):
        begin = time.process_time()
        step(inputs)
        times.append(time.process_time() - begin)
    sent = sum(math.prod(t.shape) for t in objective.state if t.role == "shared")
    timed = f"{1000 * min(times):>9.1f}" if times else f"{'-':>9}"
    kind = f"{name:<12}{network.trained:<8}{network.modulation if name == 'ree' else '-':<10}"
    forwards = counted / forward_macs(spec, spec.depth)
    return f"{kind}{counted / 1e6:>12.1f}{forwards:>9.2f}{timed}{sent:>12,}"


def main() -> None:
    """Print one line a case; with --deit also DeiT-S at 224, without time."""
    torch.set_num_threads(1)
    print("exits at 2/4/6/8 of 8 blocks, width 64, 50 tokens, batch 16, one thread")
    print(
        f"{'exits':<12}{'trained':<8}{'modulation':<10}{'MMAC/sample':>12}{'/forward':>9}"
        f"{'ms/step':>9}{'sent':>12}"
    )
    for name, network in CASES:
        print(row(name, network, 16, STEPS), flush=True)
    if "--deit" in sys.argv[1:]:
        print("DeiT-S at 224, exits at 3/6/9/12, batch 1")
        for name, network in CASES:
            large = Network(DEIT_S, network.exits, network.modulation, network.trained, 32)
            print(row(name, large, 1, 0), flush=True)


if __name__ == "__main__":
    main()
