"""The simulator's step against a plain PyTorch loop, and the proximal step against its naive form.

One thread; the least CPU time of several tries, which a busy machine disturbs least.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reefleet.learning.network import Network
from reefleet.learning.objectives import Settings
from reefleet.learning.objectives.exits import Recipe, exits_objective
from reefleet.learning.quantizer import proximal_weights
from reefleet.model import ModelSpec
from reefleet.simulation.training import Lesson, first_state, train

SPEC = ModelSpec(28, 7, 1, 32, 2, 4, 10, (1, 2, 3, 4))
BATCH, STEPS, TRIES, TURNS = 16, 40, 5, 15
CLIENTS = 4  # in one step, where a round samples about that many of a depth
WEIGHTS, CENTERS = 1_000_000, 16
DEIT_S = ModelSpec(224, 16, 3, 384, 6, 12, 100, (3, 6, 9, 12), ree_hidden=518)


def least(act: Callable[[], object], tries: int = TRIES) -> float:
    """Least CPU seconds of one call."""
    act()
    times = []
    for _ in range(tries):
        begin = time.process_time()
        act()
        times.append(time.process_time() - begin)
    return min(times)


def by_turns(*acts: Callable[[], object]) -> list[float]:
    """Least CPU seconds of each, one after another many times, so that noise meets all alike."""
    times = [[least(act, 1) for act in acts] for _ in range(TURNS)]
    return [min(column) for column in zip(*times, strict=True)]


def simulated(images: Tensor, labels: Tensor) -> Callable[[], object]:
    """An epoch of the simulator's local training."""
    network = Network(SPEC, "heads")
    objective = exits_objective(Recipe("fedavg", network, "sum"), SPEC.depth, 1, Settings())
    state = first_state(objective, network.initial(0), {})
    lesson = Lesson(images, labels, BATCH, 0)
    return lambda: train(objective, state, lesson)


def plain(images: Tensor, labels: Tensor) -> Callable[[], object]:
    """An epoch of the same model, loss and optimizer written with autograd's own means."""
    network = Network(SPEC, "heads")
    first = network.initial(0)
    params = {name: torch.from_numpy(v.copy()).requires_grad_() for name, v in first.items()}
    optimizer = torch.optim.SGD(params.values(), lr=0.01)

    def epoch() -> None:
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
        for rows in order.split(BATCH):
            logits = network.logits(params, SPEC.depth, images[rows])
            exits = logits.shape[1]
            target = labels[rows].repeat_interleave(exits)
            loss = F.cross_entropy(logits.flatten(0, 1), target) * exits
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_value_(params.values(), 1.0)
            optimizer.step()

    return epoch


def batched(images: Tensor, labels: Tensor) -> Callable[[], object]:
    """An epoch with several clients of one depth in each step, by torch.func.vmap."""
    network = Network(SPEC, "heads")
    first = {n: torch.from_numpy(v) for n, v in network.initial(0).items()}
    params = {name: value.expand(CLIENTS, *value.shape) for name, value in first.items()}

    def loss_of(own: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = network.logits(own, SPEC.depth, x)
        target = y[:, None] == torch.arange(SPEC.classes)
        return -(torch.log_softmax(logits, -1) * target[:, None]).sum(-1).mean(0).sum()

    gradients_of = torch.func.vmap(torch.func.grad(loss_of))

    def epoch() -> None:
        state = params
        for rows in torch.arange(len(labels)).split(CLIENTS * BATCH):
            x = images[rows].unflatten(0, (CLIENTS, BATCH))
            found = gradients_of(state, x, labels[rows].view(CLIENTS, BATCH))
            state = {name: p - 0.01 * found[name].clamp(-1, 1) for name, p in state.items()}

    return epoch


def naive_proximal(values: Tensor, centers: Tensor, threshold: Tensor) -> Tensor:
    """The published form: distances to every center, argmin, three cases."""
    nearest = centers[(values[None] - centers[:, None]).abs().argmin(0)]
    above, below = values > nearest + threshold, values < nearest - threshold
    moved = torch.where(above, values - threshold, nearest)
    return torch.where(below, values + threshold, moved)


def main() -> None:
    """Print three comparisons."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH * STEPS, 1, 28, 28, generator=generator)
    labels = torch.randint(0, 10, (BATCH * STEPS,), generator=generator)
    epochs = (simulated(images, labels), plain(images, labels), batched(images, labels))
    ours, theirs, together = (STEPS / seconds for seconds in by_turns(*epochs))
    print(f"client steps a second, one core: {ours:.0f} simulated, {theirs:.0f} plain PyTorch loop")
    print(f"  with {CLIENTS} clients a step by torch.func.vmap: {together:.0f}")
    values = torch.randn(WEIGHTS, generator=generator)
    centers, threshold = torch.linspace(-2, 2, CENTERS), torch.tensor(0.01)
    found, _ = proximal_weights(values, centers, threshold)
    difference = float((found - naive_proximal(values, centers, threshold)).abs().max())
    fast = least(lambda: proximal_weights(values, centers, threshold))
    slow = least(lambda: naive_proximal(values, centers, threshold))
    print(
        f"prox of {WEIGHTS:,} weights to {CENTERS} centers: {1000 * fast:.1f} ms, argmin form "
        f"{1000 * slow:.1f} ms, {slow / fast:.1f} times; results differ by {difference:.0e}"
    )
    ree, heads = (Network(DEIT_S, exits).macs(DEIT_S.depth) for exits in ("ree", "heads"))
    print(f"Ree over plain heads, DeiT-S: {100 * (ree / heads - 1):.2f} % of the MACs")


if __name__ == "__main__":
    main()
