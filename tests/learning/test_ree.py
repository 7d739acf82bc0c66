"""The functional network against an in-place reference, and its exits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reefleet.learning.ree import exit_logits
from reefleet.learning.vit import init_params
from reefleet.model import ModelSpec

SPEC = ModelSpec(
    image_size=8, patch_size=4, channels=1, width=16, heads=2, depth=4, classes=3, exits=(2, 4)
)


def layer(params: dict[str, Tensor], prefix: str, x: Tensor, heads: int, scale: float) -> Tensor:
    """One pre-norm transformer layer, written plainly, head by head."""
    weights = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}

    def norm(name: str, values: Tensor) -> Tensor:
        centered = values - values.mean(-1, keepdim=True)
        spread = values.var(-1, unbiased=False, keepdim=True)
        return (
            centered / torch.sqrt(spread + 1e-6) * weights[f"{name}.weight"]
            + weights[f"{name}.bias"]
        )

    qkv = norm("norm1", x) @ weights["attn.qkv.weight"].T + weights["attn.qkv.bias"]
    q, k, v = qkv.chunk(3, -1)
    size = q.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        score = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) * scale, -1)
        mixed.append(score @ v[..., part])
    x = x + torch.cat(mixed, -1) @ weights["attn.proj.weight"].T + weights["attn.proj.bias"]
    hidden = norm("norm2", x) @ weights["mlp.fc1.weight"].T + weights["mlp.fc1.bias"]
    return x + F.gelu(hidden) @ weights["mlp.fc2.weight"].T + weights["mlp.fc2.bias"]


def in_place_logits(params: dict[str, Tensor], spec: ModelSpec, images: Tensor) -> list[Tensor]:
    """The network as the published code runs it: class tokens are views of x, overwritten."""
    batch, patch, d = images.shape[0], spec.patch_size, spec.width
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2)
    x = patches @ params["patch_embed.weight"].T + params["patch_embed.bias"]
    x = torch.cat([params["cls_token"].expand(batch, 1, d), x], 1) + params["pos_embed"]
    history = [params["ree.meta_token"].expand(batch, 1, d)]
    logits = []
    for index in range(spec.depth):
        x = layer(params, f"blocks.{index}.", x, spec.heads, (d // spec.heads) ** -0.5)
        raw = x[:, :1].clone()
        saved = x[:, :1]  # a view: it sees the write below
        depths = torch.cat([params[f"ree.depth_embed.{row}"] for row in range(index + 2)])
        sequence = torch.cat([*history, raw], 1) + depths
        encoded = layer(params, "ree.", sequence, spec.ree_heads, spec.ree_width**-0.5)
        x[:, 0] = encoded[:, -1]
        history.append(saved)
        feature = F.layer_norm(
            encoded[:, 0] + raw[:, 0],
            (d,),
            params["head.norm.weight"],
            params["head.norm.bias"],
            1e-6,
        )
        if index + 1 in spec.exits:
            logits.append(feature @ params["head.weight"].T + params["head.bias"])
        x = x.clone()
    return logits


def random_params() -> dict[str, Tensor]:
    """Weights large enough that every path through the network matters."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: value + 0.2 * torch.randn(value.shape, generator=generator)
        for name, value in init_params(SPEC, 0).items()
    }


def test_functional_network_equals_the_in_place_reference() -> None:
    params = random_params()
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    found = exit_logits(params, SPEC, 4, images)
    for index, expected in enumerate(in_place_logits(params, SPEC, images)):
        torch.testing.assert_close(found[:, index], expected, rtol=0, atol=1e-5)


def test_a_shallow_sub_model_gives_the_first_exits_of_the_full_one() -> None:
    params = random_params()
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    full = exit_logits(params, SPEC, 4, images)
    torch.testing.assert_close(exit_logits(params, SPEC, 2, images), full[:, :1])


def test_every_tensor_of_the_sub_model_gets_a_gradient() -> None:
    params = {name: value.requires_grad_() for name, value in random_params().items()}
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    (exit_logits(params, SPEC, 4, images) ** 2).sum().backward()
    dead = [n for n, p in params.items() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


@pytest.mark.parametrize("seed", [0, 7])
def test_initial_weights_depend_on_the_seed_alone(seed: int) -> None:
    once, again = init_params(SPEC, seed), init_params(SPEC, seed)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["cls_token"], init_params(SPEC, seed + 1)["cls_token"])
