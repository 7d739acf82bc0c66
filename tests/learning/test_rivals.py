from __future__ import annotations

import pytest
import torch

from reefleet.learning.distillation import among_all_exits, cross_entropy, divergence
from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective, Settings
from reefleet.learning.objectives.rivals import fml, per_fedavg, pfedme, qupel
from reefleet.model import ModelSpec
from reefleet.simulation.training import first_state

SPEC = ModelSpec(8, 4, 1, 16, 2, 2, 4, (2,))
HEADS, REE = Network(SPEC, "heads"), Network(SPEC)


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(3, 1, 8, 8, generator=generator).repeat_interleave(2, 0)
    image = image + 0.1 * torch.randn(6, 1, 8, 8, generator=generator)
    return {"image": image, "label": torch.arange(6) // 2, "mask": torch.ones(6)}


def scalars(objective: Objective) -> dict[str, torch.Tensor]:
    return {s.name: torch.tensor(s.at(0.0, "local")) for s in objective.scalars}


@pytest.mark.parametrize(
    "objective",
    [
        fml(HEADS, 2, 1, Settings(rate=0.05, personal_rate=0.05)),
        qupel(REE, 2, 4, 1, Settings(rate=0.05, personal_rate=0.05)),
        pfedme(HEADS, 2, 1, Settings(rate=0.05, personal_rate=0.05)),
        per_fedavg(HEADS, 2, 1, Settings(rate=0.1, personal_rate=0.01)),
    ],
    ids=lambda objective: objective.name,
)
def test_a_rival_lowers_its_loss(objective: Objective) -> None:
    # Two rows of each label, one of them even, one odd, so that Per-FedAvg's halves agree.
    network = REE if objective.name == "qupel" else HEADS
    state = first_state(objective, network.initial(0), {})
    losses = []
    for _ in range(15):
        state, metrics = objective.step(state, batch(), scalars(objective))
        losses.append(float(metrics[objective.metrics[0]]))
    assert losses[-1] < 0.95 * losses[0]


def test_per_fedavg_takes_the_gradient_at_the_trial_point() -> None:
    settings = Settings(rate=0.1, personal_rate=0.2)
    objective = per_fedavg(HEADS, 2, 1, settings)
    state = first_state(objective, HEADS.initial(0), {})
    found, _ = objective.step(state, batch(), scalars(objective))

    def gradients(params: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
        def loss_of(values: dict[str, torch.Tensor]) -> torch.Tensor:
            logits = HEADS.logits(values, 2, batch()["image"][rows])
            return cross_entropy(logits, batch()["label"][rows], torch.ones(3)).sum()

        return {n: g.clamp(-1, 1) for n, g in torch.func.grad(loss_of)(params).items()}

    start = {name.removeprefix("shared/"): value for name, value in state.items()}
    even = gradients(start, slice(0, None, 2))
    odd = gradients({n: v - 0.2 * even[n] for n, v in start.items()}, slice(1, None, 2))
    for name, value in start.items():
        torch.testing.assert_close(found[f"shared/{name}"], value - 0.1 * odd[name])


def test_pfedme_pulls_the_two_models_together() -> None:
    objective = pfedme(HEADS, 2, 1, Settings(rate=0.1, tie=2.0))
    state = first_state(objective, HEADS.initial(0), {})
    state["shared/exits.2.bias"] = torch.full((4,), 3.0)
    found, _ = objective.step(state, batch(), scalars(objective))
    own = found["personal/exits.2.bias"]
    expected = 3.0 - 0.2 * (3.0 - own)
    torch.testing.assert_close(found["shared/exits.2.bias"], expected)
    assert (own > state["personal/exits.2.bias"]).all()


def test_all_pairs_distillation_is_the_sum_over_ordered_pairs_over_students() -> None:
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(5)
    expected = sum(
        divergence(logits[:, j : j + 1], logits[:, i : i + 1], mask, 1.0)[0]
        for i in range(3)
        for j in range(3)
        if i != j
    )
    torch.testing.assert_close(among_all_exits(logits, mask), expected / 2)
    assert among_all_exits(logits[:, :1], mask) == 0
