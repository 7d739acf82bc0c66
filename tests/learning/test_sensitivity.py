from __future__ import annotations

import itertools

import pytest
import torch

from reefleet.errors import DataTooSmall
from reefleet.learning.distillation import cross_entropy
from reefleet.learning.objectives.objective import gradients_of
from reefleet.learning.ree import exit_logits
from reefleet.learning.sensitivity import measure_harm
from reefleet.learning.vit import init_params
from reefleet.mixed import WIDTHS, layer_bits_for
from reefleet.model import ModelSpec, packed_bytes, quantized_tensors
from reefleet.wire.codebook import assign, lloyd, snap

SPEC = ModelSpec(8, 4, 1, 16, 2, 2, 4, (1, 2))


def samples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    return images, torch.randint(0, 4, (count,), generator=generator)


def test_harm_falls_with_bits_and_covers_every_quantized_tensor() -> None:
    harm = measure_harm(SPEC, 2, init_params(SPEC, 1), *samples(40))
    assert tuple(harm) == quantized_tensors(SPEC, 2)
    for values in harm.values():
        assert len(values) == len(WIDTHS)
        assert all(high > low for high, low in itertools.pairwise(values[:5]))


def test_a_tensor_that_the_answer_does_not_hang_on_is_not_harmed() -> None:
    params = init_params(SPEC, 1)
    params["blocks.1.mlp.fc2.weight"] = torch.zeros_like(params["blocks.1.mlp.fc2.weight"])
    harm = measure_harm(SPEC, 2, params, *samples(20))
    # Nothing passes a second layer of zeros, so what feeds it cannot matter.
    assert max(harm["blocks.1.mlp.fc1.weight"]) == 0
    bits = dict(
        zip(
            quantized_tensors(SPEC, 2),
            layer_bits_for(SPEC, 2, packed_bytes(SPEC, 2, 3), harm),
            strict=True,
        )
    )
    assert bits["blocks.1.mlp.fc1.weight"] == 1
    assert bits["blocks.0.attn.qkv.weight"] > 3


def test_one_sample_has_the_definition_s_harm() -> None:
    params, (images, labels) = init_params(SPEC, 1), samples(1)
    name = "blocks.0.mlp.fc1.weight"
    gradients, _ = gradients_of(
        lambda leaves: (
            cross_entropy(
                exit_logits({**params, **leaves}, SPEC, 2, images), labels, torch.ones(1)
            ).sum(),
            None,
        ),
        {name: params[name]},
    )
    values = params[name].numpy()
    centers = snap(lloyd(values, 2)).centers
    expected = 0.5 * (
        gradients[name].numpy() ** 2 * (centers[assign(values, centers)] - values) ** 2
    )
    found = measure_harm(SPEC, 2, params, images, labels)[name][1]
    assert found == pytest.approx(float(expected.sum()), rel=1e-4)


def test_no_sample_is_refused() -> None:
    images, labels = samples(1)
    with pytest.raises(DataTooSmall, match="no sample"):
        measure_harm(SPEC, 1, init_params(SPEC, 1), images[:0], labels[:0])
