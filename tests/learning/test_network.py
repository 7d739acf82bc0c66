from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reefleet.learning.heads import head_logits
from reefleet.learning.network import Network
from reefleet.learning.ree import exit_logits
from reefleet.model import ModelSpec, tensor_shapes

SPEC = ModelSpec(8, 4, 1, 16, 2, 3, 4, (1, 2, 3))


def tensors(network: Network) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    values = {name: torch.from_numpy(value) for name, value in network.initial(0).items()}
    return {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in values.items()}


def images() -> torch.Tensor:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def test_detached_modulation_computes_what_modulation_computes() -> None:
    params = tensors(Network(SPEC))
    on, detached = (exit_logits(params, SPEC, 3, images(), m) for m in ("on", "detached"))
    torch.testing.assert_close(on, detached)


def test_without_modulation_the_backbone_is_a_plain_vit() -> None:
    ree, heads = Network(SPEC, modulation="off"), Network(SPEC, "heads")
    params = {**tensors(heads), **tensors(ree)}
    moved = dict(params)
    moved["ree.attn.proj.weight"] = params["ree.attn.proj.weight"] * 3
    plain, again = (head_logits(p, SPEC, 3, images()) for p in (params, moved))
    assert torch.equal(plain, again)
    off, on = (exit_logits(params, SPEC, 3, images(), m) for m in ("off", "on"))
    torch.testing.assert_close(off[:, 0], on[:, 0])
    assert not torch.allclose(off[:, 1], on[:, 1])


def test_a_frozen_backbone_gets_no_gradient_but_the_rest_does() -> None:
    network = Network(SPEC, trained="frozen")
    params = tensors(network)
    names = network.trained_names(3)
    assert not [name for name in names if name.startswith(("blocks", "patch", "pos", "cls"))]
    free = {name: params[name].requires_grad_() for name in names}
    network.logits({**params, **free}, 3, images()).sum().backward()
    assert all(value.grad is not None for value in free.values())


def test_detached_modulation_leaves_a_frozen_backbone_out_of_the_backward_pass() -> None:
    seen: dict[str, bool] = {}
    for modulation in ("on", "detached", "off"):
        network = Network(SPEC, modulation=modulation, trained="frozen")
        params = tensors(network)
        free = {name: params[name].requires_grad_() for name in network.trained_names(3)}
        whole = {**params, **free}
        logits = network.logits(whole, 3, images())
        seen[modulation] = _reaches(logits, whole["blocks.2.mlp.fc1.weight"])
    assert seen == {"on": True, "detached": False, "off": False}


def test_adapters_start_as_nothing_and_are_low_rank() -> None:
    network = Network(SPEC, trained="lora", lora_rank=2)
    plain = Network(SPEC)
    params = {n: torch.from_numpy(v) for n, v in network.initial(0).items()}
    same = {n: torch.from_numpy(v) for n, v in plain.initial(0).items()}
    assert torch.equal(network.logits(params, 3, images()), plain.logits(same, 3, images()))
    extra = set(network.shapes(2)) - set(tensor_shapes(SPEC, 2))
    assert len(extra) == 2 * 2 * 2
    assert extra < set(network.trained_names(2))
    assert "blocks.0.attn.qkv.weight" not in network.trained_names(2)


@pytest.mark.parametrize("exits", ["ree", "heads"])
def test_a_shallower_cut_answers_alike(exits: str) -> None:
    network = Network(SPEC, exits)  # type: ignore[arg-type]
    params = tensors(network)
    cut = {name: params[name] for name in network.shapes(2)}
    deep, shallow = (network.logits(p, d, images()) for p, d in ((params, 3), (cut, 2)))
    torch.testing.assert_close(deep[:, :2], shallow)


@pytest.mark.parametrize("exits", ["ree", "heads"])
def test_macs_are_those_that_torch_counts(exits: str) -> None:
    network = Network(SPEC, exits)  # type: ignore[arg-type]
    for depth in SPEC.exits:
        with FlopCounterMode(display=False) as counter:
            network.logits(tensors(network), depth, images())
        assert counter.get_total_flops() == 2 * len(images()) * network.macs(depth)


def _reaches(logits: torch.Tensor, frozen: torch.Tensor) -> bool:
    """Whether the backward pass goes through a product with this weight."""
    todo, seen = [logits.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        shapes = [
            tuple(getattr(node, name).shape)
            for name in dir(node)
            if name.startswith("_saved_") and isinstance(getattr(node, name), torch.Tensor)
        ]
        if tuple(frozen.shape) in shapes or tuple(frozen.T.shape) in shapes:
            return True
        todo += [following for following, _ in node.next_functions]
    return False
