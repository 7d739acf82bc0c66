"""Inputs that are not square, and the convolutional backbone's geometry."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from reefleet import model
from reefleet.errors import ConfigError

VIT = model.ModelSpec(8, 2, 1, 32, 4, 4, 10, (1, 2, 4))
WIDE = replace(VIT, image_size=98, image_width=40, patch_size=14, patch_width=10)
CONV = model.ModelSpec(
    98,
    2,
    1,
    32,
    1,
    4,
    10,
    (1, 2, 4),
    image_width=40,
    conv=model.ConvGeometry(8, (8, 12, 12, 16), (1, 2, 1, 2)),
)


def test_a_square_vit_reads_and_writes_what_it_always_did() -> None:
    values = VIT.to_json()
    assert list(values) == [
        *("image_size", "patch_size", "channels", "width", "heads", "depth", "classes", "exits"),
        *("mlp_ratio", "ree_heads", "ree_width", "ree_hidden"),
    ]
    assert model.Preprocessing(8, 1, 0.5, 0.25).to_json() == {
        "size": 8,
        "channels": 1,
        "mean": 0.5,
        "std": 0.25,
    }


@pytest.mark.parametrize("spec", [VIT, WIDE, CONV], ids=["vit", "wide", "conv"])
def test_a_spec_survives_json(spec: model.ModelSpec) -> None:
    assert model.ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_wide_input_is_cut_into_whole_patches() -> None:
    assert WIDE.image_shape == (1, 98, 40)
    assert (WIDE.grid, WIDE.tokens, WIDE.patch_values) == ((7, 4), 29, 140)
    assert model.tensor_shapes(WIDE)["pos_embed"] == (29, 32)


def test_maps_shrink_by_the_strides_and_round_up() -> None:
    shapes = [model.state_shape(CONV, depth) for depth in range(5)]
    assert shapes == [(49, 20, 8), (49, 20, 8), (25, 10, 12), (25, 10, 12), (13, 5, 16)]


def test_a_convolutional_block_costs_what_its_layers_multiply() -> None:
    spec = replace(CONV, exits=(1, 2, 3, 4))
    block = 49 * 20 * 8 * 32 + 25 * 10 * 32 * (9 + 12)
    token = (25 + 10) * 12 * 32 + 8 * 32  # rows and columns to the token, and one given back
    ree = 3 * 32 * (4 * 16 + 2 * 43) + 2 * 3**2 * 16
    head = 32 * 10
    difference = model.forward_macs(spec, 2) - model.forward_macs(spec, 1)
    assert difference == block + token + ree + head


def test_only_one_by_one_convolutions_of_the_blocks_are_quantized() -> None:
    assert model.quantized_tensors(CONV, 2) == (
        "blocks.0.expand.weight",
        "blocks.0.project.weight",
        "blocks.1.expand.weight",
        "blocks.1.project.weight",
    )
    shapes = model.tensor_shapes(CONV)
    coded = sum(prod(shapes[name]) for name in model.quantized_tensors(CONV))
    at_one, at_two = (model.packed_bytes(CONV, 4, bits) for bits in (1, 2))
    assert at_two - at_one == coded // 8 + 2 * len(model.quantized_tensors(CONV))


def test_the_planner_s_features_of_a_vit_are_its_tokens() -> None:
    tokens, width, heads = VIT.tokens, VIT.width, VIT.heads
    assert model.activation_values(VIT, 2) == 2 * tokens * width
    assert model.kept_values(VIT, 2) == 2 * tokens * (16 * width + heads * tokens)
    assert model.attention_pairs(VIT, 2) == 2 * heads * tokens**2
    assert model.attention_pairs(CONV, 2) == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"conv": {"stem": 8, "widths": [8], "strides": [1, 1, 1, 1]}}, "widths has 1 entries"),
        ({"conv": {"stem": 8, "widths": [8] * 4, "strides": [3] * 4}}, "strides hold 3"),
        ({"conv": {"stem": 0, "widths": [8] * 4, "strides": [1] * 4}}, "stem is 0"),
        ({"conv": {"stem": 8, "widths": [True] * 4, "strides": [1] * 4}}, "widths hold True"),
        ({"conv": {"stem": 8, "widths": [8] * 4}}, "must hold stem, widths and strides"),
        ({"conv": None}, "must hold stem"),
        ({"heads": 2}, "no attention"),
        ({"image_width": 41}, "not a multiple of patch_width"),
        ({"image_width": -2}, "image_width is -2"),
        ({"kind": "mlp"}, "kind is 'mlp'"),
        ({"kind": "vit"}, "kind is 'vit'"),
    ],
)
def test_a_geometry_that_no_network_can_have_is_refused(
    change: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        model.ModelSpec.from_json({**CONV.to_json(), **change})


def test_a_convolutional_spec_needs_no_heads() -> None:
    values = CONV.to_json()
    del values["heads"]
    assert model.ModelSpec.from_json(values) == CONV


def test_a_contract_of_a_wide_input_says_both_extents() -> None:
    labels = tuple("0123456789")
    contract = model.ModelContract(CONV, model.Preprocessing(98, 1, 0.5, 0.2, width=40), labels)
    assert model.ModelContract.from_json(json.loads(json.dumps(contract.to_json()))) == contract
    with pytest.raises(ConfigError, match="size and channels differ"):
        model.ModelContract(CONV, model.Preprocessing(98, 1, 0.5, 0.2), labels)


def test_the_models_in_the_documentation_are_models() -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    contract, conv, sound = blocks
    described = json.loads(contract)
    assert model.ModelContract.from_json(described).spec.kind == "vit"
    spec = model.ModelSpec.from_json({**json.loads(conv)})
    assert spec.kind == "conv"
    model.ModelContract.from_json({**described, "model": spec.to_json()})
    found = model.Preprocessing.from_json(json.loads("{" + sound + "}")["preprocessing"])
    assert found.shape == (1, 98, 40)
