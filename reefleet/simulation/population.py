"""The clients of an experiment: who holds which samples, at which depth and bit-width."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reefleet.datasets import partition
from reefleet.datasets.corpus import Corpus, open_corpus
from reefleet.datasets.formats import Samples
from reefleet.datasets.pack import Part, normalized
from reefleet.errors import DataTooSmall, InputError
from reefleet.model import ConvGeometry, ModelSpec, Preprocessing
from reefleet.simulation.config import DataConfig, Experiment


@dataclass(frozen=True, slots=True)
class Client:
    """One simulated device: its number, its sub-model's size, its three parts."""

    number: int
    depth: int
    bits: int
    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True, slots=True)
class Population:
    """All clients, the pooled parts that a shared model is judged on, and the input's contract.

    `public` samples belong to no client; the backbone may be pre-trained on them.
    """

    clients: tuple[Client, ...]
    validation: Part
    test: Part
    public: Part
    spec: ModelSpec
    preprocessing: Preprocessing

    def images(self, part: Part) -> torch.Tensor:
        """Images of a part as the model reads them."""
        return torch.from_numpy(normalized(part.images, self.preprocessing))


def populate(experiment: Experiment, folder: Path, seed: int) -> Population:
    """Read and share out the data; the same seed gives the same clients.

    A client's parts never overlap. The pooled test part is the corpus's own where it has one.
    Raises DataTooSmall, InputError, or ConfigError where the model cannot read such images.
    """
    data = experiment.data
    corpus = open_corpus(data.kind, folder / data.path, data.size)
    channels, height, width = corpus.train.images.shape[1:]
    rng = np.random.default_rng([seed, 2])
    if data.samples:
        corpus = replace(corpus, train=_drawn(corpus.train, data.samples, rng))
    public, private = _split(corpus.train, experiment.model.public_samples, rng)
    clients = _clients(experiment, private, rng)
    pixels = corpus.train.images[:2000].astype(np.float32) / 255
    across = 0 if width == height else width
    spec = _spec(experiment, corpus, (channels, height, across))
    mean, std = float(pixels.mean()), float(pixels.std()) or 1.0
    preprocessing = Preprocessing(height, channels, mean, std, across)
    own = corpus.test or _pooled([client.test for client in clients])
    return Population(
        clients,
        _part(_drawn(_pooled([c.validation for c in clients]), data.evaluated, rng)),
        _part(_drawn(own, data.evaluated, rng)),
        _part(public),
        spec,
        preprocessing,
    )


def _clients(
    experiment: Experiment, samples: Samples, rng: np.random.Generator
) -> tuple[Client, ...]:
    data, depths, bits = experiment.data, experiment.depths, experiment.fleet.bits
    shares = _shares(data, samples, rng)
    made = []
    for number, share in enumerate(shares):
        order = rng.permutation(share)
        deviation = data.feature_noise * number / max(1, len(shares) - 1)
        images = partition.noisy(samples.images[order], deviation, rng)
        parts = _cut(images, samples.labels[order], data)
        made.append(Client(number, depths[number % len(depths)], bits[number % len(bits)], *parts))
    return tuple(made)


def _shares(
    data: DataConfig, samples: Samples, rng: np.random.Generator
) -> list[partition.Indices]:
    count, clients, labels = len(samples), data.clients, samples.labels
    if data.partition == "dirichlet":
        return partition.dirichlet_split(labels, clients, data.alpha, rng, data.least)
    if data.partition == "classes":
        return partition.classes_split(labels, clients, data.classes_per_client, rng)
    if data.partition == "quantity":
        return partition.quantity_split(count, clients, data.alpha, rng, data.least)
    if data.partition == "iid":
        return partition.iid_split(count, clients, rng)
    if samples.clients is None:
        msg = "this corpus does not say whose a sample is; choose another data.partition"
        raise InputError(msg)
    return partition.natural_split(samples.clients, clients, rng, data.least)


def _cut(
    images: NDArray[np.uint8], labels: NDArray[np.int64], data: DataConfig
) -> tuple[Part, Part, Part]:
    test = round(len(labels) * data.test_share)
    held = test + round(len(labels) * data.validation_share)
    if held >= len(labels):
        msg = f"a client with {len(labels)} samples has none left to train on; raise data.least"
        raise DataTooSmall(msg)
    return (
        Part(images[held:], labels[held:]),
        Part(images[test:held], labels[test:held]),
        Part(images[:test], labels[:test]),
    )


def _spec(experiment: Experiment, corpus: Corpus, image: tuple[int, int, int]) -> ModelSpec:
    model = experiment.model
    conv = None
    if model.conv_stem:
        conv = ConvGeometry(model.conv_stem, model.conv_widths, model.conv_strides)
    return ModelSpec(
        image_size=image[1],
        patch_size=model.patch_size,
        channels=image[0],
        width=model.width,
        heads=1 if conv else model.heads,
        depth=model.depth,
        classes=corpus.classes,
        exits=model.exits,
        mlp_ratio=model.mlp_ratio,
        ree_hidden=model.ree_hidden,
        image_width=image[2],
        patch_width=model.patch_width,
        conv=conv,
    )


def _pooled(parts: list[Part]) -> Samples:
    images = np.concatenate([part.images for part in parts])
    return Samples(images, np.concatenate([part.labels for part in parts]))


def _split(samples: Samples, public: int, rng: np.random.Generator) -> tuple[Samples, Samples]:
    if public >= len(samples):
        msg = f"model.public_samples is {public}; there are {len(samples)} samples in all"
        raise DataTooSmall(msg)
    order = rng.permutation(len(samples))
    return _rows(samples, np.sort(order[:public])), _rows(samples, np.sort(order[public:]))


def _rows(samples: Samples, rows: NDArray[np.int64]) -> Samples:
    clients = None if samples.clients is None else samples.clients[rows]
    return Samples(samples.images[rows], samples.labels[rows], clients)


def _drawn(samples: Samples, count: int, rng: np.random.Generator) -> Samples:
    if len(samples) <= count:
        return samples
    return _rows(samples, np.sort(rng.permutation(len(samples))[:count]))


def _part(samples: Samples) -> Part:
    return Part(samples.images, samples.labels)
