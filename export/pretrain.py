"""Pre-training as a job: a public pack in, a checkpoint out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.numpy import save

from reefleet.blobs import write_atomic
from reefleet.datasets.pack import Part, normalized
from reefleet.learning.pretraining import Pretraining, Progress, accuracy, pretrain
from reefleet.model import ModelContract, forward_macs

# MACs of a forward pass below which threads wait for each other longer than they work.
WORTH_THREADS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a run measured on the samples it trained on, per exit."""

    samples: int
    train_accuracy: tuple[float, ...]


def pretrain_to(
    out: Path,
    contract: ModelContract,
    part: Part,
    seed: int,
    settings: Pretraining,
    progress: Progress,
) -> Pretrained:
    """Train the full model on `part` and write it as safetensors, whole or not at all.

    Raises InputError or DataTooSmall where the samples do not fit the model.
    """
    spec = contract.spec
    part.require(spec, "train")
    if forward_macs(spec, spec.depth) * settings.batch_size < WORTH_THREADS:
        torch.set_num_threads(1)
    images = torch.from_numpy(normalized(part.images, contract.preprocessing))
    labels = torch.from_numpy(part.labels)
    weights = pretrain(spec, images, labels, seed, settings, progress)
    write_atomic(out, save({name: value.numpy() for name, value in weights.items()}))
    return Pretrained(len(part), tuple(accuracy(weights, spec, spec.depth, images, labels)))
