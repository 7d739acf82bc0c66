"""QuPeD's personal step: what moves, what stays, and what its parts are compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from reefleet.learning.network import Network
from reefleet.learning.objectives import Objective, Settings, quped, reefl_quped
from reefleet.learning.objectives.books import BITS_FLOAT
from reefleet.learning.quantizer import assign
from reefleet.model import ModelSpec, quantized_tensors
from reefleet.simulation.training import first_state, snap

SPEC = ModelSpec(8, 4, 1, 16, 2, 2, 4, (1, 2))
INITIAL = Network(SPEC).initial(0)
FAST = Settings(rate=0.05, personal_rate=0.05, personal_rate_end=0.05)
CODED = quantized_tensors(SPEC, 2)


def a_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(8, 1, 8, 8, generator=generator)
    return {"image": image, "label": torch.arange(8) % 4, "mask": torch.ones(8)}


def trained(
    objective: Objective, phase: str, steps: int, state: dict[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], list[float]]:
    """State after steps on one batch, and the quantized loss of each."""
    state, losses = state or first_state(objective, INITIAL, {}), []
    scalars = {s.name: torch.tensor(s.at(0.5, phase)) for s in objective.scalars}
    for _ in range(steps):
        state, metrics = objective.step(state, a_batch(), scalars)
        losses.append(float(metrics["quantized_loss"]))
    return state, losses


def recoded(settings: Settings) -> int:
    """Weights that have left their first center after some steps."""
    objective = quped(SPEC, 2, 2, settings)
    first = first_state(objective, INITIAL, {})
    last, _ = trained(objective, "relax", 25)

    def codes(state: dict[str, Tensor], name: str) -> Tensor:
        return assign(state[f"personal/{name}"].reshape(-1), state[f"centers/{name}"])

    return sum(int((codes(first, name) != codes(last, name)).sum()) for name in CODED)


def test_the_default_prox_pins_no_weight_to_its_first_center() -> None:
    free, default = recoded(replace(FAST, proximal=0.0)), recoded(FAST)
    assert default > 0.8 * free > 50
    assert recoded(replace(FAST, proximal=0.3)) < 0.5 * default


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("quantizer", ["quped", "lsq", "parq"])
def test_every_quantizer_lowers_the_quantized_loss(
    quantizer: Literal["quped", "lsq", "parq"], bits: int
) -> None:
    objective = quped(SPEC, 2, bits, replace(FAST, quantizer=quantizer))
    _, losses = trained(objective, "relax", 30)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("quantizer", ["quped", "lsq", "parq"])
def test_every_quantizer_may_have_a_codebook_by_channel(
    quantizer: Literal["quped", "lsq", "parq"],
) -> None:
    settings = replace(FAST, quantizer=quantizer, codebook="channel")
    objective = quped(SPEC, 2, 2, settings)
    first = first_state(objective, INITIAL, {})
    last, losses = trained(objective, "relax", 30)
    assert losses[-1] < 0.98 * losses[0]
    for name in CODED:
        assert (last[f"scales/{name}"] > 0).all()
        assert not torch.equal(last[f"scales/{name}"], first[f"scales/{name}"])


@pytest.mark.parametrize("codebook", ["tensor", "channel"])
@pytest.mark.parametrize("centers", ["grid", "free"])
def test_fine_tuning_trains_what_will_be_answered_with(
    centers: Literal["grid", "free"], codebook: Literal["tensor", "channel"]
) -> None:
    settings = replace(FAST, centers=centers, codebook=codebook)
    objective = quped(SPEC, 2, 1, settings)
    state = first_state(objective, INITIAL, {})
    for phase in objective.phases:
        if phase.enter:
            snap(state, phase.enter)
        state, losses = trained(objective, phase.name, 10, state)
    assert losses[-1] < losses[0]
    before = {name: value.clone() for name, value in state.items()}
    seen = trained(objective, "finetune", 1, state)[1][0]
    snap(state, settings.settle)
    settled = trained(objective, "finetune", 1, state)[1][0]
    assert settled == pytest.approx(seen, abs=1e-6)
    for name in CODED:
        held = state[f"centers/{name}"]
        torch.testing.assert_close(held, before[f"centers/{name}"])
        rows = state.get(f"scales/{name}", torch.ones(len(before[f"personal/{name}"])))
        for row, scale in zip(state[f"personal/{name}"], rows, strict=True):
            assert torch.isin(row, held * scale).all()


def test_without_codebooks_it_is_the_same_schedule_in_float() -> None:
    objective, coded = (quped(SPEC, 2, bits, FAST) for bits in (BITS_FLOAT, 2))
    assert not any(item.role == "centers" for item in objective.state)
    assert [(p.name, p.epochs) for p in objective.phases] == [
        (p.name, p.epochs) for p in coded.phases
    ]
    _, losses = trained(objective, "relax", 12)
    assert losses[-1] < 0.9 * losses[0]


def test_each_tensor_may_have_its_own_bits() -> None:
    widths = {name: 1 + index for index, name in enumerate(CODED)}
    state, _ = trained(quped(SPEC, 2, widths, FAST), "relax", 1)
    assert [len(state[f"centers/{name}"]) for name in CODED] == [2**b for b in widths.values()]


@pytest.mark.parametrize("exits", ["ree", "heads"])
def test_the_shared_model_takes_its_own_step_from_a_detached_personal_one(
    exits: Literal["ree", "heads"],
) -> None:
    network = Network(SPEC, exits)
    settings = replace(FAST, mutual=1.0)
    found = {}
    for rate in (0.0, 0.5):
        objective = reefl_quped(SPEC, 2, 2, 1, settings, network)
        state = first_state(objective, network.initial(0), {})
        scalars = {s.name: torch.tensor(s.at(0.5, "local")) for s in objective.scalars}
        scalars["personal_rate"] = torch.tensor(rate)
        found[rate], _ = objective.step(state, a_batch(), scalars)
    for name, value in found[0.0].items():
        if name.startswith("shared/"):
            assert torch.equal(value, found[0.5][name]), name
    moved = [n for n in found[0.0] if not torch.equal(found[0.0][n], found[0.5][n])]
    assert any(name.startswith("personal/") for name in moved)
