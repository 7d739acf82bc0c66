"""Trained sets: they start as nothing, learn what they should, and count what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from reefleet.errors import ConfigError
from reefleet.learning.network import Network
from reefleet.learning.vit import attention, layer_norm
from reefleet.model import ConvGeometry, ModelSpec, sent_shapes, tensor_shapes
from reefleet.plan import TrainedSet

VIT = ModelSpec(8, 4, 1, 16, 2, 3, 4, (1, 2, 3))
CONV = ModelSpec(8, 1, 1, 16, 1, 3, 4, (1, 2, 3), conv=ConvGeometry(6, (6, 8, 8), (1, 2, 1)))
SETS: tuple[TrainedSet, ...] = ("lora", "ssf", "adapters", "parallel-adapters")
BOTH = pytest.mark.parametrize("spec", [VIT, CONV], ids=["vit", "conv"])
EACH = pytest.mark.parametrize("trained", SETS)


def spread(network: Network) -> dict[str, Tensor]:
    """Weights of which every one matters."""
    generator = torch.Generator().manual_seed(4)
    values = {name: torch.from_numpy(value) for name, value in network.initial(0).items()}
    return {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in values.items()}


def images(spec: ModelSpec) -> Tensor:
    return torch.randn(3, *spec.image_shape, generator=torch.Generator().manual_seed(2))


@BOTH
@EACH
def test_a_model_with_them_starts_as_the_model_without(
    spec: ModelSpec, trained: TrainedSet
) -> None:
    network, plain = Network(spec, trained=trained, lora_rank=2), Network(spec)
    tuned, bare = (
        {n: torch.from_numpy(v) for n, v in each.initial(0).items()} for each in (network, plain)
    )
    assert all(torch.equal(bare[name], tuned[name]) for name in bare)
    x = images(spec)
    assert torch.equal(network.logits(tuned, 3, x), plain.logits(bare, 3, x))


@BOTH
@EACH
def test_every_added_tensor_learns_and_the_backbone_does_not(
    spec: ModelSpec, trained: TrainedSet
) -> None:
    network = Network(spec, trained=trained, lora_rank=2)
    params = spread(network)
    names = network.trained_names(3)
    added = set(network.shapes(3)) - set(tensor_shapes(spec))
    assert added < set(names)
    assert not [n for n in names if n not in added and n.startswith(("blocks.", "stem.", "patch"))]
    free = {name: params[name].requires_grad_() for name in names}
    network.logits({**params, **free}, 3, images(spec)).sum().backward()
    dead = [n for n in added if free[n].grad is None or not free[n].grad.abs().max() > 0]
    assert dead == []


@BOTH
@EACH
def test_a_shallow_device_holds_what_its_blocks_need(spec: ModelSpec, trained: TrainedSet) -> None:
    network = Network(spec, trained=trained, lora_rank=2)
    params = spread(network)
    cut = {name: params[name] for name in network.shapes(2)}
    deep, shallow = (network.logits(p, d, images(spec)) for p, d in ((params, 3), (cut, 2)))
    torch.testing.assert_close(deep[:, :2], shallow)


@BOTH
@pytest.mark.parametrize("exits", ["ree", "heads"])
@EACH
def test_macs_are_those_that_torch_counts(spec: ModelSpec, exits: str, trained: TrainedSet) -> None:
    network = Network(spec, exits, trained=trained, lora_rank=2)  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter:
        network.logits(spread(network), 2, images(spec))
    assert counter.get_total_flops() == 2 * 3 * network.macs(2)


def test_lora_adds_low_rank_matrices_to_queries_and_values() -> None:
    network = Network(VIT, trained="lora", lora_rank=2)
    params, prefix = spread(network), "blocks.0.attn."
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    change = [2 * params[f"{prefix}lora_{t}.b"] @ params[f"{prefix}lora_{t}.a"] for t in "qv"]
    merged = dict(params)
    merged[prefix + "qkv.weight"] = params[prefix + "qkv.weight"] + torch.cat(
        [change[0], torch.zeros(16, 16), change[1]]
    )
    for target in "qv":
        del merged[f"{prefix}lora_{target}.a"]
    found, expected = (attention(p, prefix, x, 2, 0.3) for p in (params, merged))
    torch.testing.assert_close(found, expected)


def test_ssf_is_a_gain_and_a_shift_of_each_channel() -> None:
    params = spread(Network(VIT, trained="ssf"))
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    plain = F.layer_norm(
        x, (16,), params["blocks.0.norm1.weight"], params["blocks.0.norm1.bias"], 1e-6
    )
    gain, shift = (params[f"blocks.0.norm1.ssf.{part}"] for part in ("gain", "shift"))
    torch.testing.assert_close(layer_norm(params, "blocks.0.norm1", x), plain * gain + shift)
    layers = {n.removesuffix(".ssf.gain") for n in params if n.endswith(".ssf.gain")}
    assert {"patch_embed", "blocks.1.attn.qkv", "blocks.1.attn.proj", "blocks.1.mlp.fc1"} < layers
    assert not [name for name in layers if name.startswith(("ree.", "head."))]


def test_a_device_sends_what_its_set_trains() -> None:
    whole = tensor_shapes(VIT, 2)
    exits = {name for name in whole if name.startswith(("ree.", "head."))}
    assert sent_shapes(VIT, 2, "full") == whole
    assert set(sent_shapes(VIT, 2, "frozen")) == exits
    held = replace(VIT, adapter="lora", rank=2)
    sent = sent_shapes(held, 2, "lora")
    assert set(sent) - exits == {
        f"blocks.{i}.attn.lora_{t}.{s}" for i in range(2) for t in "qv" for s in "ab"
    }
    assert sent["blocks.0.attn.lora_q.a"] == (2, 16)
    with pytest.raises(ConfigError, match="trained set is 'lora'; the model holds 'no adapter'"):
        sent_shapes(VIT, 2, "lora")
