from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reefleet.errors import ConfigError, NoFeasiblePlan
from reefleet.mixed import (
    WIDTHS,
    Layer,
    allocate,
    layer_bits_for,
    layers_of,
)
from reefleet.model import ModelSpec, coded_bytes, packed_bytes, quantized_tensors
from reefleet.plan import SubmodelPlan

SPEC = ModelSpec(8, 4, 1, 16, 2, 2, 4, (1, 2))
FEW = range(1, 5)


def a_layer(weights: int, scale: float, name: str = "w") -> Layer:
    return Layer(name, weights, tuple(scale * 4.0**-bits for bits in WIDTHS))


def cost(layers: list[Layer], bits: tuple[int, ...]) -> int:
    return sum(coded_bytes(layer.weights, b) for layer, b in zip(layers, bits, strict=True))


def harm(layers: list[Layer], bits: tuple[int, ...]) -> float:
    return sum(layer.harm[b - 1] for layer, b in zip(layers, bits, strict=True))


def some_layers(harms: list[list[float]], sizes: list[int]) -> list[Layer]:
    return [
        Layer(str(i), size, tuple(sorted(values, reverse=True)))
        for i, (values, size) in enumerate(zip(harms, sizes, strict=False))
    ]


@given(
    harms=st.lists(st.lists(st.floats(0, 100), min_size=8, max_size=8), min_size=1, max_size=4),
    sizes=st.lists(st.integers(8, 3000), min_size=4, max_size=4),
    share=st.floats(0, 1),
)
@settings(deadline=None, max_examples=60)
def test_the_answer_fits_and_is_as_near_the_best_as_it_says(
    harms: list[list[float]], sizes: list[int], share: float
) -> None:
    layers = some_layers(harms, sizes)
    least, most = (cost(layers, (bits,) * len(layers)) for bits in (1, 4))
    budget = int(least + share * (most - least))
    found = allocate(layers, budget, FEW)
    choices = itertools.product(FEW, repeat=len(layers))
    best = min(harm(layers, bits) for bits in choices if cost(layers, bits) <= budget)
    assert found.coded_bytes == cost(layers, found.layer_bits) <= budget
    assert found.harm == pytest.approx(harm(layers, found.layer_bits))
    assert found.bound - 1e-9 <= best <= found.harm + 1e-9
    step = max(layer.harm[0] - layer.harm[3] for layer in layers)
    assert found.harm - best <= step + 1e-9


def test_the_bound_is_met_where_steps_fill_the_budget() -> None:
    layers = [a_layer(800, 9.0, "a"), a_layer(800, 1.0, "b")]
    found = allocate(layers, cost(layers, (3, 1)))
    assert found.layer_bits == (3, 1)
    assert found.harm == pytest.approx(found.bound)


def test_what_is_harmed_more_gets_more_bits() -> None:
    layers = [a_layer(4096, scale, str(scale)) for scale in (1.0, 100.0, 0.01)]
    bits = allocate(layers, cost(layers, (3, 3, 3))).layer_bits
    assert bits[1] > bits[0] > bits[2]


def test_layers_that_count_alike_get_the_same_bits() -> None:
    assert set(layer_bits_for(SPEC, 2, packed_bytes(SPEC, 2, 3))) == {3}


def test_more_budget_never_harms_more() -> None:
    layers = [a_layer(700, 5.0, "a"), a_layer(1500, 1.0, "b"), a_layer(300, 30.0, "c")]
    least, most = (cost(layers, (bits,) * 3) for bits in (1, 8))
    found = [allocate(layers, budget).bound for budget in range(least, most, 50)]
    assert found == sorted(found, reverse=True)


def test_a_budget_below_one_bit_is_refused() -> None:
    with pytest.raises(NoFeasiblePlan, match="1 bits a weight"):
        layer_bits_for(SPEC, 2, packed_bytes(SPEC, 2, 1) - 1)


def test_the_packed_model_stays_within_the_budget() -> None:
    measured = {
        name: [(i + 1) * 4.0**-bits for bits in WIDTHS]
        for i, name in enumerate(quantized_tensors(SPEC, 2))
    }
    budget = (packed_bytes(SPEC, 2, 2) + packed_bytes(SPEC, 2, 3)) // 2
    bits = layer_bits_for(SPEC, 2, budget, measured)
    assert len(set(bits)) > 1
    assert packed_bytes(SPEC, 2, bits) <= budget
    plan = SubmodelPlan(2, 2, 4, 1, 1, "float32", layer_bits=bits)
    assert tuple(plan.widths(quantized_tensors(SPEC, 2)).values()) == bits


def test_a_tensor_without_a_measurement_is_named() -> None:
    with pytest.raises(ConfigError, match=r"blocks\.0\.attn\.qkv"):
        layers_of(SPEC, 2, {})


def test_a_plan_for_another_number_of_tensors_is_refused() -> None:
    plan = SubmodelPlan(2, 2, 4, 1, 1, "float32", layer_bits=(2, 3))
    with pytest.raises(ConfigError, match="2 tensors, there are 8"):
        plan.widths(quantized_tensors(SPEC, 2))
    with pytest.raises(ConfigError, match="2 bit-widths for 8"):
        packed_bytes(SPEC, 2, plan.layer_bits)


def test_harm_that_cannot_be_compared_is_refused() -> None:
    for harm in ((1.0,), (1.0,) * 7 + (float("nan"),), (-1.0,) * 8):
        with pytest.raises(ConfigError, match="'w'"):
            Layer("w", 1, harm)
