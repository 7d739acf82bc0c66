"""The shape of the model: cuts, exits and refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import pytest

from reefleet import model
from reefleet.errors import ConfigError

SPEC = model.ModelSpec(
    image_size=8, patch_size=2, channels=1, width=32, heads=4, depth=4, classes=10, exits=(1, 2, 4)
)
DEPTHS = pytest.mark.parametrize("depth", [1, 2, 4])
CONTRACT = model.ModelContract(SPEC, model.Preprocessing(8, 1, 0.3, 0.4), tuple("0123456789"))


@DEPTHS
def test_a_cut_holds_a_subset_of_the_full_model_in_its_order(depth: int) -> None:
    full = model.tensor_shapes(SPEC)
    cut = model.tensor_shapes(SPEC, depth)
    assert [name for name in full if name in cut] == list(cut)
    assert all(full[name] == shape for name, shape in cut.items())


@DEPTHS
def test_a_cut_holds_exactly_the_blocks_and_depth_rows_it_reaches(depth: int) -> None:
    cut = model.tensor_shapes(SPEC, depth)
    blocks = {int(name.split(".")[1]) for name in cut if name.startswith("blocks.")}
    rows = {int(name.rsplit(".", 1)[1]) for name in cut if name.startswith("ree.depth_embed.")}
    assert blocks == set(range(depth))
    assert rows == set(range(depth + 1))


@DEPTHS
def test_what_a_cut_lacks_belongs_to_deeper_blocks_only(depth: int) -> None:
    lacks = model.tensor_shapes(SPEC).keys() - model.tensor_shapes(SPEC, depth).keys()
    deeper = tuple(f"blocks.{i}." for i in range(depth, 4))
    rows = {f"ree.depth_embed.{i + 1}" for i in range(depth, 4)}
    assert {name for name in lacks if not name.startswith(deeper)} == rows


def test_deeper_cuts_hold_all_that_shallower_ones_hold() -> None:
    cuts = [set(model.tensor_shapes(SPEC, depth)) for depth in range(1, 5)]
    assert all(shallow < deep for shallow, deep in pairwise(cuts))


def test_exits_within_a_depth_end_at_it() -> None:
    assert SPEC.exits_within(1) == (1,)
    assert SPEC.exits_within(2) == (1, 2)
    assert SPEC.exits_within(4) == (1, 2, 4)


@pytest.mark.parametrize("depth", [0, 3, 5, -1])
def test_a_depth_that_is_no_exit_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match=f"depth {depth} is not one of the exits"):
        SPEC.exits_within(depth)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"patch_size": 3}, "not a multiple of patch_size"),
        ({"heads": 5}, "width must be a multiple of heads"),
        ({"ree_width": 12}, "ree_width of ree_heads"),
        ({"exits": ()}, "exits is empty"),
        ({"exits": (1, 2)}, "end at depth 4"),
        ({"exits": (2, 1, 4)}, "must rise"),
        ({"exits": (1, 1, 4)}, "must rise"),
        ({"exits": (0, 4)}, "must rise from 1"),
        ({"depth": 0}, "depth is 0"),
        ({"classes": -1}, "classes is -1"),
        ({"width": 32.0}, "width is 32.0"),
        ({"width": True}, "width is True"),
        ({"ree_hidden": -1}, "ree_hidden is -1"),
    ],
)
def test_a_geometry_that_no_network_can_have_is_refused(
    change: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        replace(SPEC, **change)


def test_a_spec_survives_json() -> None:
    assert model.ModelSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_published_ratios_are_the_defaults() -> None:
    short = {"mlp_ratio", "ree_heads", "ree_width", "ree_hidden"}
    values = {key: value for key, value in SPEC.to_json().items() if key not in short}
    spec = model.ModelSpec.from_json(values)
    assert (spec.mlp_ratio, spec.hidden, spec.ree_ffn) == (4, 128, 43)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"novelty": 1}, "unknown model key 'novelty'"),
        ({"exits": "124"}, "'exits' must be a list"),
        ({"exits": [1, "4"]}, "'exits' must be a list of integers"),
        ({"depth": "4"}, "depth is '4'"),
    ],
)
def test_a_model_file_with_a_wrong_value_is_refused(
    change: Mapping[str, object], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        model.ModelSpec.from_json({**SPEC.to_json(), **change})


def test_a_model_file_without_a_value_is_refused() -> None:
    values = SPEC.to_json()
    del values["width"]
    with pytest.raises(ConfigError, match="'width' is missing"):
        model.ModelSpec.from_json(values)


def test_quantized_tensors_are_the_linear_weights_of_the_backbone() -> None:
    names = model.quantized_tensors(SPEC, 2)
    shapes = model.tensor_shapes(SPEC, 2)
    assert len(names) == 2 * 4
    assert all(name.startswith("blocks.") and len(shapes[name]) == 2 for name in names)


@DEPTHS
def test_parameters_are_the_values_of_all_tensors(depth: int) -> None:
    expected = sum(prod(shape) for shape in model.tensor_shapes(SPEC, depth).values())
    assert model.parameter_count(SPEC, depth) == expected


def test_packed_bytes_rise_with_depth_and_bits() -> None:
    by_bits = [model.packed_bytes(SPEC, 4, bits) for bits in range(1, 9)]
    by_depth = [model.packed_bytes(SPEC, depth, 4) for depth in (1, 2, 4)]
    assert by_bits == sorted(by_bits)
    assert by_depth == sorted(by_depth)
    assert by_bits[-1] < 4 * model.parameter_count(SPEC)


def test_a_block_costs_what_its_layers_multiply() -> None:
    spec = replace(SPEC, exits=(1, 2, 3, 4))
    tokens, width = 17, 32
    block = tokens * width * (3 * width + width + 8 * width) + 2 * tokens**2 * width
    ree = 3 * width * (4 * 16 + 2 * 43) + 2 * 3**2 * 16
    head = width * 10
    assert model.forward_macs(spec, 2) - model.forward_macs(spec, 1) == block + ree + head


def test_a_contract_survives_json() -> None:
    values = json.loads(json.dumps(CONTRACT.to_json()))
    assert model.ModelContract.from_json(values) == CONTRACT


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"labels": ("a",)}, "1 labels for 10 classes"),
        ({"preprocessing": model.Preprocessing(9, 1, 0.3, 0.4)}, "size and channels differ"),
        ({"preprocessing": model.Preprocessing(8, 3, 0.3, 0.4)}, "size and channels differ"),
        ({"preprocessing": model.Preprocessing(8, 1, 0.3, 0.0)}, "std is 0.0"),
        ({"preprocessing": model.Preprocessing(8, 1, 0.3, float("nan"))}, "std is nan"),
    ],
)
def test_a_contract_that_disagrees_with_itself_is_refused(
    change: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        replace(CONTRACT, **change)


@pytest.mark.parametrize("key", ["model", "preprocessing", "labels"])
def test_an_incomplete_contract_is_refused(key: str) -> None:
    values = CONTRACT.to_json()
    del values[key]
    with pytest.raises(ConfigError, match=f"incomplete: '{key}'"):
        model.ModelContract.from_json(values)
