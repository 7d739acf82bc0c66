"""Accuracy of shared and personal models, in batches and without gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reefleet.learning.network import Network
from reefleet.simulation.server import Server

BATCH = 500


def exit_accuracy(
    network: Network, params: Mapping[str, Tensor], depth: int, images: Tensor, labels: Tensor
) -> list[float]:
    """Share right of each exit within `depth`, shallow to deep; empty where there is no sample."""
    if not len(labels):
        return []
    right = torch.zeros(len(network.spec.exits_within(depth)), dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(labels), BATCH):
            guesses = network.logits(params, depth, images[start : start + BATCH]).argmax(-1)
            right += (guesses == labels[start : start + BATCH, None]).sum(0)
    return [float(value) for value in right / len(labels)]


def shared_accuracy(server: Server, depth: int, images: Tensor, labels: Tensor) -> list[float]:
    """Share right of each exit of the shared model; of each tier's own model under `tiers`."""
    network = server.network
    if server.rule != "tiers":
        return exit_accuracy(network, tensors(server, depth), depth, images, labels)
    return [
        exit_accuracy(network, tensors(server, tier), tier, images, labels)[-1]
        for tier in network.spec.exits_within(depth)
    ]


def tensors(server: Server, depth: int) -> dict[str, Tensor]:
    """The server's sub-model of this depth for torch."""
    return {name: torch.from_numpy(value) for name, value in server.cut(depth).items()}
