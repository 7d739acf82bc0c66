"""Accuracy of shared and personal models, in batches and without gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from reefleet.learning.network import Network
from reefleet.simulation.early_exit import Answers
from reefleet.simulation.server import Server

BATCH = 500


def exit_answers(
    network: Network, params: Mapping[str, Tensor], depth: int, images: Tensor, labels: Tensor
) -> Answers:
    """Logits of each exit within `depth`, shallow to deep, for every sample."""
    exits = len(network.spec.exits_within(depth))
    found = [np.zeros((0, exits, network.spec.classes), np.float32)]
    with torch.no_grad():
        for start in range(0, len(labels), BATCH):
            logits = network.logits(params, depth, images[start : start + BATCH])
            found.append(logits.numpy())
    return Answers(np.concatenate(found), labels.numpy())


def exit_accuracy(answers: Answers) -> list[float]:
    """Share right of each exit; empty where there is no sample."""
    if not len(answers.labels):
        return []
    return [float(share) for share in answers.correct.mean(0)]


def shared_answers(server: Server, depth: int, images: Tensor, labels: Tensor) -> Answers:
    """Each exit of the shared model; of each tier's own model where the rule has them."""
    if not server.tiered:
        return exit_answers(server.network, tensors(server, depth), depth, images, labels)
    own = [
        exit_answers(server.network_of(tier), tensors(server, tier), tier, images, labels)
        for tier in server.network.spec.exits_within(depth)
    ]
    return Answers(np.stack([tier.logits[:, -1] for tier in own], 1), own[0].labels)


def leaving_macs(server: Server, depth: int) -> list[int]:
    """What a sample has cost when it leaves at each exit: tiers of their own are run in turn."""
    macs = [server.network_of(tier).macs(tier) for tier in server.network.spec.exits_within(depth)]
    return [sum(macs[: index + 1]) for index in range(len(macs))] if server.tiered else macs


def tensors(server: Server, depth: int) -> dict[str, Tensor]:
    """The server's sub-model of this depth for torch."""
    return {name: torch.from_numpy(value) for name, value in server.cut(depth).items()}
