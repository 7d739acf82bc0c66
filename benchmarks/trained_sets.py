"""What a training step costs by trained set and modulation: multiply-accumulates and time.

MACs are counted in the step's own trace, after what nothing reads has been dropped: forward,
backward and update, a sample. Time is the least CPU time of an eager step on one thread.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from export.programs import example_inputs, flat_step
from export.trace import trace
from reefleet.learning.network import Network
from reefleet.learning.objectives import Settings
from reefleet.learning.objectives.exits import Recipe, exits_objective
from reefleet.learning.ree import Modulation
from reefleet.model import ConvGeometry, ModelSpec, forward_macs
from reefleet.plan import TRAINED_SETS

SMALL = ModelSpec(28, 4, 1, 64, 4, 8, 10, (2, 4, 6, 8))
CONV = ModelSpec(
    28,
    2,
    1,
    64,
    1,
    8,
    10,
    (2, 4, 6, 8),
    conv=ConvGeometry(16, (16, 16, 24, 24, 32, 32, 48, 48), (1, 1, 2, 1, 2, 1, 1, 1)),
)
DEIT_S = ModelSpec(224, 16, 3, 384, 6, 12, 100, (3, 6, 9, 12), ree_hidden=518)
MODULATIONS: tuple[Modulation, ...] = ("on", "detached", "off")
STEPS = 12
aten: Any = torch.ops.aten
_PRODUCTS = {aten.mm.default, aten.bmm.default, aten.addmm.default}


def cases(spec: ModelSpec, rank: int) -> Iterator[tuple[str, Network]]:
    """Heads and Ree by trained set and modulation; with adapters, where modulation matters."""
    yield "plain heads", Network(spec, "heads")
    yield "plain heads", Network(spec, "heads", trained="frozen")
    for trained in TRAINED_SETS:
        for modulation in MODULATIONS if trained in {"full", "frozen"} else ("on", "off"):
            yield "ree", Network(spec, "ree", modulation, trained, rank)


def macs(graph: torch.fx.Graph) -> int:
    """Multiply-accumulates of the products and convolutions that the graph's outputs need."""
    graph.eliminate_dead_code()
    total = 0
    for node in graph.nodes:
        if node.target in _PRODUCTS:
            left = node.args[1 if node.target is aten.addmm.default else 0]
            total += math.prod(node.meta["val"].shape) * left.meta["val"].shape[-1]
        elif node.target is aten.convolution.default:
            total += math.prod(node.meta["val"].shape) * _kernel(node.args[1])
        elif node.target is aten.convolution_backward.default:
            wanted = sum(bool(part) for part in node.args[-1][:2])
            total += wanted * math.prod(node.args[0].meta["val"].shape) * _kernel(node.args[2])
    return total


def _kernel(weight: torch.fx.Node) -> int:
    return math.prod(weight.meta["val"].shape[1:])


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
    kind = f"{name:<12}{network.trained:<18}{network.modulation if name == 'ree' else '-':<10}"
    forwards = counted / forward_macs(spec, spec.depth)
    return f"{kind}{counted / 1e6:>12.1f}{forwards:>9.2f}{timed}{sent:>12,}"


def main() -> None:
    """Print one line a case; with --deit also DeiT-S at 224, without time."""
    torch.set_num_threads(1)
    small = "exits at 2/4/6/8 of 8 blocks, width 64, batch 16, one thread"
    tables = [(f"ViT, 50 tokens, {small}", SMALL, 8, 16), (f"convolutional, {small}", CONV, 8, 16)]
    if "--deit" in sys.argv[1:]:
        tables.append(("DeiT-S at 224, exits at 3/6/9/12, batch 1", DEIT_S, 32, 1))
    for title, spec, rank, batch in tables:
        print(title)
        print(
            f"{'exits':<12}{'trained':<18}{'modulation':<10}{'MMAC/sample':>12}{'/forward':>9}"
            f"{'ms/step':>9}{'sent':>12}"
        )
        for name, network in cases(spec, rank):
            steps = 0 if spec is DEIT_S else STEPS
            print(row(name, network, batch, steps), flush=True)


if __name__ == "__main__":
    main()
