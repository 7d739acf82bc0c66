from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from reefleet.learning.network import Network
from reefleet.model import ConvGeometry, ModelSpec
from reefleet.simulation.widths import Widths, narrowed, shares_of, tier_network

SPEC = ModelSpec(8, 4, 1, 40, 2, 4, 3, (1, 2, 3, 4))


def test_widths_are_the_published_shares_rounded_up_to_the_heads() -> None:
    assert shares_of(SPEC) == (0.40, 0.55, 0.75, 1.0)
    assert [narrowed(SPEC, depth).width for depth in SPEC.exits] == [16, 22, 30, 40]
    assert narrowed(replace(SPEC, width=384, heads=6), 1).width == 156


def test_a_cut_network_computes_what_the_full_one_does_with_the_rest_at_zero() -> None:
    network = Network(SPEC, "heads")
    rule, model = Widths(network), network.initial(0)
    own = tier_network(network, "widths", 2)
    cut = rule.cut(model, 2)
    assert {n: v.shape for n, v in cut.items()} == own.shapes(2)
    back = Widths(network)
    zeros = {name: np.zeros_like(value) for name, value in model.items()}
    back.fold(zeros, cut)
    again = Widths(network).cut(back.finish(zeros), 2)
    assert all(np.array_equal(again[name], cut[name]) for name in cut)
    images = torch.ones(1, 1, 8, 8)
    tensors = {name: torch.from_numpy(value) for name, value in cut.items()}
    assert own.logits(tensors, 2, images).shape == (1, 2, 3)


def test_a_narrow_head_keeps_the_leading_dimensions_of_that_head() -> None:
    network = Network(SPEC, "heads")
    model = network.initial(0)
    rows = np.arange(120, dtype=np.float32)
    model["blocks.0.attn.qkv.bias"] = rows
    cut = Widths(network).cut(model, 1)["blocks.0.attn.qkv.bias"]
    parts = rows.reshape(3, 2, 20)[:, :, :8]
    assert np.array_equal(cut, parts.ravel())


def test_an_element_moves_by_the_mean_of_its_holders() -> None:
    network = Network(SPEC, "heads")
    rule, model = Widths(network), network.initial(0)
    for depth, move in ((1, 1.0), (4, 3.0)):
        cut = rule.cut(model, depth)
        rule.fold(model, {n: np.full_like(v, move) for n, v in cut.items()})
    moved = rule.finish(model)
    step = moved["cls_token"] - model["cls_token"]
    np.testing.assert_allclose(step[0, :16], 2.0, rtol=1e-5)
    np.testing.assert_allclose(step[0, 16:], 3.0, rtol=1e-5)
    rule.fold(model, {"cls_token": np.ones((1, 16), np.float32)})
    assert np.array_equal(rule.finish(model)["exits.4.bias"], model["exits.4.bias"])


def test_a_convolutional_backbone_is_cut_by_leading_channels() -> None:
    conv = ConvGeometry(10, (10, 10, 16, 16), (1, 1, 2, 1))
    network = Network(ModelSpec(16, 2, 1, 16, 1, 4, 3, (1, 2, 3, 4), mlp_ratio=2, conv=conv))
    own = tier_network(network, "widths", 2).spec
    assert own.conv == ConvGeometry(6, (6, 6), (1, 1))
    rule, model = Widths(network), network.initial(0)
    cut = rule.cut(model, 2)
    assert np.array_equal(cut["blocks.1.project.weight"], model["blocks.1.project.weight"][:6, :12])
    tensors = {name: torch.from_numpy(value) for name, value in cut.items()}
    narrow = tier_network(network, "widths", 2)
    assert narrow.logits(tensors, 2, torch.ones(1, 1, 16, 16)).shape == (1, 2, 3)
    for depth, move in ((1, 1.0), (4, 3.0)):
        part = rule.cut(model, depth)
        rule.fold(model, {n: np.full_like(v, move) for n, v in part.items()})
    step = (rule.finish(model)["stem.bias"] - model["stem.bias"])[:10]
    np.testing.assert_allclose(step, [2.0] * 4 + [3.0] * 6, rtol=1e-5)
