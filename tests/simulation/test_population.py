from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reefleet.model import state_shape
from reefleet.simulation.config import DataConfig, Experiment, FleetConfig, ModelConfig
from reefleet.simulation.population import populate

MODEL = ModelConfig(patch_size=4, width=8, depth=2, exits=(1, 2))


def a_pack(folder: Path, shape: tuple[int, int] = (8, 8)) -> None:
    """120 distinct images of 3 classes from 4 writers; 20 of them are tests."""
    images = np.zeros((120, *shape), np.uint8)
    images[:, 0, 0] = np.arange(120)
    labels = np.arange(120) % 3
    writers = np.arange(100) // 25
    np.savez(
        folder / "pack.npz",
        train_images=images[:100],
        train_label=labels[:100],
        train_client=writers,
        test_images=images[100:],
        test_label=labels[100:],
    )


def an_experiment(**data: object) -> Experiment:
    config = DataConfig("pack", "pack.npz", clients=4, **data)  # type: ignore[arg-type]
    return Experiment("x", ("fedavg",), data=config, model=MODEL, fleet=FleetConfig(bits=(2, 4)))


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "classes", "natural", "quantity"])
def test_no_sample_lies_in_two_parts(tmp_path: Path, partition: str) -> None:
    a_pack(tmp_path)
    found = populate(an_experiment(partition=partition, least=5), tmp_path, 0)
    held = [c.train for c in found.clients] + [c.validation for c in found.clients]
    held += [c.test for c in found.clients] + [found.test, found.public]
    seen = np.concatenate([part.images[:, 0, 0, 0] for part in held])
    assert len(seen) == len(set(seen))
    assert set(found.test.images[:, 0, 0, 0]) == set(range(100, 120))
    assert all(len(client.train) for client in found.clients)


def test_tiers_and_bits_follow_the_client_number(tmp_path: Path) -> None:
    a_pack(tmp_path)
    found = populate(an_experiment(), tmp_path, 0)
    assert [(c.depth, c.bits) for c in found.clients] == [(1, 2), (2, 4), (1, 2), (2, 4)]


def test_the_same_seed_gives_the_same_clients(tmp_path: Path) -> None:
    a_pack(tmp_path)
    one, same, other = (populate(an_experiment(), tmp_path, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.clients[2].train.images, same.clients[2].train.images)
    assert not np.array_equal(one.clients[2].train.images, other.clients[2].train.images)


def test_images_that_are_not_square_are_read_as_they_are_or_resized(tmp_path: Path) -> None:
    a_pack(tmp_path, (8, 12))
    wide = populate(an_experiment(), tmp_path, 0)
    assert wide.spec.image_shape == (1, 8, 12)
    assert wide.preprocessing.shape == (1, 8, 12)
    assert populate(an_experiment(size=8), tmp_path, 0).spec.image_shape == (1, 8, 8)


def test_a_convolutional_model_is_built_for_the_data(tmp_path: Path) -> None:
    a_pack(tmp_path, (8, 12))
    experiment = an_experiment()
    conv = {"conv_stem": 4, "conv_widths": (4, 6), "conv_strides": (1, 2)}
    model = replace(experiment.model, patch_size=2, **conv)
    spec = populate(replace(experiment, model=model), tmp_path, 0).spec
    assert state_shape(spec, spec.depth) == (2, 3, 6)
