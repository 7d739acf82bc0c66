"""The convolutional backbone against torch's own modules, and what its token does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from reefleet.learning import conv
from reefleet.learning.network import Network
from reefleet.learning.ree import Modulation, advance, exit_logits
from reefleet.model import ConvGeometry, ModelSpec, state_shape, tensor_shapes

SPEC = ModelSpec(
    18,
    2,
    3,
    16,
    1,
    4,
    5,
    (1, 2, 4),
    image_width=20,
    conv=ConvGeometry(6, (6, 8, 8, 10), (1, 2, 1, 2)),
)


def tensors(network: Network) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    values = {name: torch.from_numpy(value) for name, value in network.initial(0).items()}
    return {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in values.items()}


def images() -> Tensor:
    return torch.randn(3, *SPEC.image_shape, generator=torch.Generator().manual_seed(2))


def a_convolution(params: dict[str, Tensor], prefix: str, module: nn.Conv2d) -> nn.Conv2d:
    with torch.no_grad():
        module.weight.copy_(params[prefix + ".weight"].reshape(module.weight.shape))
        if module.bias is not None:
            module.bias.copy_(params[prefix + ".bias"])
    return module


def test_blocks_are_inverted_residuals() -> None:
    params, act = tensors(Network(SPEC)), nn.ReLU6()
    found = conv.embed(params, SPEC, images())
    x = act(a_convolution(params, "stem", nn.Conv2d(3, 6, 2, 2))(images()))
    before, token = 6, None
    for index, (after, stride) in enumerate(zip((6, 8, 8, 10), (1, 2, 1, 2), strict=True)):
        inner, prefix = 4 * before, f"blocks.{index}."
        expand = a_convolution(params, prefix + "expand", nn.Conv2d(before, inner, 1))
        depthwise = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner)
        a_convolution(params, prefix + "depthwise", depthwise)
        project = a_convolution(params, prefix + "project", nn.Conv2d(inner, after, 1))
        y = project(act(depthwise(act(expand(x)))))
        x = x + y if y.shape == x.shape else y
        found = conv.block(params, SPEC, index, found)
        assert found.shape == (3, *state_shape(SPEC, index + 1))
        torch.testing.assert_close(found.permute(0, 3, 1, 2), x)
        project = a_convolution(params, f"features.{index}", nn.Conv2d(after, 16, 1))
        rows, columns = (F.adaptive_avg_pool2d(x, size) for size in ((None, 1), (1, None)))
        own = sum(act(project(part)).mean((2, 3)) for part in (rows, columns))
        expected = own if token is None else own + token[:, 0]
        token = conv.feature(params, SPEC, index, found, token)
        torch.testing.assert_close(token[:, 0], expected)
        before = after


def test_the_token_returns_as_a_bias_of_each_channel() -> None:
    params = tensors(Network(SPEC))
    x = torch.randn(3, *state_shape(SPEC, 1), generator=torch.Generator().manual_seed(6))
    token = torch.randn(3, 1, 16, generator=torch.Generator().manual_seed(7))
    moved = conv.modulated(params, SPEC, 1, x, token, detached=False) - x
    expected = token[:, 0] @ params["blocks.1.modulation.weight"].T / SPEC.width**0.5  # [B, C]
    torch.testing.assert_close(moved, expected[:, None, None].expand_as(x))


@pytest.mark.parametrize("modulation", ["on", "off", "detached"])
def test_a_block_adds_to_the_token_that_was_given_back(modulation: Modulation) -> None:
    params = tensors(Network(SPEC))
    state, history = conv.embed(params, SPEC, images()), torch.zeros(3, 1, 16)
    state, history, _ = advance(params, SPEC, 0, state, history, modulation)
    _, _, alone = advance(params, SPEC, 1, state, history, modulation)
    moved = torch.cat([history[:, :1], history[:, 1:] + 1.0], 1)
    _, _, shifted = advance(params, SPEC, 1, state, moved, modulation)
    assert not torch.allclose(alone, shifted)


def test_modulation_starts_as_nothing() -> None:
    params = {n: torch.from_numpy(v) for n, v in Network(SPEC).initial(0).items()}
    on = exit_logits(params, SPEC, 1, images(), "on")
    torch.testing.assert_close(exit_logits(params, SPEC, 1, images(), "off"), on)
    assert not any(v.any() for n, v in params.items() if "modulation" in n)


def test_modulation_once_learned_changes_deeper_exits_alone() -> None:
    params = tensors(Network(SPEC))
    still = {n: torch.zeros_like(v) if "modulation" in n else v for n, v in params.items()}
    on, without = (exit_logits(p, SPEC, 4, images()) for p in (params, still))
    torch.testing.assert_close(on[:, 0], without[:, 0])
    assert not torch.allclose(on[:, 1], without[:, 1])


def test_detached_modulation_computes_the_same_and_sends_no_gradient_to_ree() -> None:
    params = tensors(Network(SPEC))
    on, detached = (exit_logits(params, SPEC, 4, images(), m) for m in ("on", "detached"))
    torch.testing.assert_close(on, detached)
    for modulation, reaches in (("on", True), ("detached", False)):
        leaf = params["features.0.weight"].clone().requires_grad_()
        state, history = conv.embed(params, SPEC, images()), torch.zeros(3, 1, 16)
        token = conv.feature({**params, "features.0.weight": leaf}, SPEC, 0, state, None)
        entered = conv.modulated(
            params, SPEC, 1, state, token + history, detached=modulation == "detached"
        )
        assert entered.requires_grad == reaches


def test_every_tensor_of_the_sub_model_gets_a_gradient() -> None:
    for network in (Network(SPEC), Network(SPEC, "heads")):
        params = {name: value.requires_grad_() for name, value in tensors(network).items()}
        held = {name: params[name] for name in network.shapes(2)}
        (network.logits(held, 2, images()) ** 2).sum().backward()
        dead = [n for n, p in held.items() if p.grad is None or not p.grad.abs().max() > 0]
        assert dead == []


def test_a_frozen_backbone_with_detached_modulation_is_left_out_of_the_backward_pass() -> None:
    network = Network(SPEC, modulation="detached", trained="frozen")
    params = tensors(network)
    free = {name: params[name].requires_grad_() for name in network.trained_names(4)}
    assert not [n for n in free if n.startswith(("blocks.", "stem."))]
    state, history = conv.embed(params, SPEC, images()), params["features.0.bias"].reshape(1, 1, 16)
    entered = conv.modulated(params, SPEC, 1, state, history, detached=True)
    assert not conv.block(params, SPEC, 1, entered).requires_grad
    network.logits({**params, **free}, 4, images()).sum().backward()
    assert all(value.grad is not None for value in free.values())


@pytest.mark.parametrize("exits", ["ree", "heads"])
def test_macs_are_those_that_torch_counts(exits: str) -> None:
    network = Network(SPEC, exits)  # type: ignore[arg-type]
    for depth in SPEC.exits:
        with FlopCounterMode(display=False) as counter:
            network.logits(tensors(network), depth, images())
        assert counter.get_total_flops() == 2 * len(images()) * network.macs(depth)


def test_plain_heads_hold_every_feature_and_nothing_of_ree() -> None:
    names = Network(SPEC, "heads").shapes(4)
    features = {name.split(".")[1] for name in names if name.startswith("features.")}
    assert features == {"0", "1", "2", "3"}
    assert not [name for name in names if "modulation" in name or name.startswith("ree.")]


def test_first_maps_keep_their_scale() -> None:
    spec = ModelSpec(
        16, 1, 3, 16, 1, 8, 5, (8,), conv=ConvGeometry(16, (16,) * 4 + (24,) * 4, (1,) * 8)
    )
    params = {n: torch.from_numpy(v) for n, v in Network(spec).initial(1).items()}
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    state = conv.embed(params, spec, x)
    for index in range(spec.depth):
        state = conv.block(params, spec, index, state)
        assert 0.3 < float(state.std()) < 3.0, index


def test_a_cut_holds_exactly_the_blocks_features_and_rows_it_reaches() -> None:
    cut = tensor_shapes(SPEC, 2)
    for part in ("blocks.", "features."):
        assert {n.split(".")[1] for n in cut if n.startswith(part)} == {"0", "1"}
    assert {n for n in tensor_shapes(SPEC) if "modulation" in n and n in cut} == {
        "blocks.1.modulation.weight"
    }
