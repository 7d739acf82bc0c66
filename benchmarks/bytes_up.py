"""Bytes of an update against accuracy on a real task: handwritten digits over unequal clients.

    python benchmarks/bytes_up.py --seeds 0 1 2 3 4

A small network (numpy) is trained by federated averaging on scikit-learn's digits, split unevenly
by class (Dirichlet 0.5) over ten clients. Each update travels as a client sends it: packed, coded,
with error feedback. The yardstick is what Flower sends, raw float32. Exit code 1 where no codec
needs a seventh of that, or less, at equal accuracy: within two standard errors of the difference.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reefleet.aggregation.mean import HolderMean
from reefleet.wire.codecs import decode_update, encode_update

CODECS = ("float32", "float16", "int8", "codebook4", "codebook2")
LAYERS = (64, 128, 64, 10)
CLIENTS, ROUNDS, LOCAL_STEPS, BATCH, RATE = 10, 30, 15, 32, 0.1
LEAST = 7.0

Model = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Outcome:
    """Test accuracy after the last round, and the mean bytes of an update."""

    accuracy: float
    size_bytes: float


def main() -> int:
    """Train with each codec and each seed, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    seeds = parser.parse_args().seeds
    found = {codec: [federated(codec, seed) for seed in seeds] for codec in CODECS}
    raw = 4 * sum(value.size for value in first_model(0).values())
    base = [outcome.accuracy for outcome in found["float32"]]
    print(f"{raw // 4:,} weights, {CLIENTS} clients, {ROUNDS} rounds, {len(seeds)} seeds")
    print("| codec | accuracy | minus float32 | bytes an update | of raw float32 | equal and 1/7 |")
    print("| --- | --- | --- | --- | --- | --- |")
    good = False
    for codec, outcomes in found.items():
        size = statistics.mean(outcome.size_bytes for outcome in outcomes)
        less = [outcome.accuracy - other for outcome, other in zip(outcomes, base, strict=True)]
        spread = statistics.stdev(less) / len(less) ** 0.5 if len(less) > 1 else 0.0
        equal = statistics.mean(less) >= -2 * spread
        floor = equal and raw / size >= LEAST
        good |= floor
        accuracy = statistics.mean(outcome.accuracy for outcome in outcomes)
        difference = f"{statistics.mean(less):+.4f} ± {spread:.4f}"
        shown = f"{accuracy:.4f} | {difference} | {size:,.0f} | 1/{raw / size:.1f}"
        print(f"| {codec} | {shown} | {'yes' if floor else 'no'} |")
    return 0 if good else 1


def federated(codec: str, seed: int) -> Outcome:
    """Federated averaging in which every update is coded."""
    rng = np.random.default_rng(seed)
    images, labels, test = digits(rng)
    shards = dirichlet(labels, rng)
    model, rule = first_model(seed), HolderMean()
    residuals: list[Model] = [{} for _ in shards]
    shapes = {name: value.shape for name, value in model.items()}
    sizes = []
    for _ in range(ROUNDS):
        state = rule.init(model)
        for client, shard in enumerate(shards):
            moved = trained(model, images[shard], labels[shard], rng)
            delta = {name: moved[name] - model[name] for name in model}
            data, residuals[client] = encode_update(delta, codec, residuals[client])
            sizes.append(len(data))
            state = rule.fold(state, decode_update(data, shapes, codec), float(len(shard)))
        model = rule.finish(state, model)
    return Outcome(float((outputs(model, test[0])[-1].argmax(1) == test[1]).mean()), np.mean(sizes))


def digits(
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """1,797 images of 8 by 8, a quarter of them kept for the test."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.data / 16.0).astype(np.float32)
    labels = found.target.astype(np.int64)
    order = rng.permutation(len(labels))
    held = len(labels) // 4
    rest = order[held:]
    return images[rest], labels[rest], (images[order[:held]], labels[order[:held]])


def dirichlet(labels: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Indices for each client."""
    shards: list[list[int]] = [[] for _ in range(CLIENTS)]
    for label in range(LAYERS[-1]):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(rng.dirichlet([0.5] * CLIENTS))[:-1] * len(members)).astype(int)
        for shard, part in zip(shards, np.split(members, cuts), strict=True):
            shard.extend(part.tolist())
    return [np.array(shard) for shard in shards if len(shard) > 1]


def first_model(seed: int) -> Model:
    """Weights by He's rule."""
    rng = np.random.default_rng(seed)
    model = {}
    for layer, (inputs, width) in enumerate(itertools.pairwise(LAYERS)):
        scale = np.sqrt(2.0 / inputs)
        model[f"{layer}.weight"] = (scale * rng.normal(size=(inputs, width))).astype(np.float32)
        model[f"{layer}.bias"] = np.zeros(width, np.float32)
    return model


def outputs(model: Model, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """What each layer gives, the images first."""
    found = [images]
    last = len(LAYERS) - 2
    for layer in range(last + 1):
        value = found[-1] @ model[f"{layer}.weight"] + model[f"{layer}.bias"]
        found.append(value if layer == last else np.maximum(value, 0))
    return found


def trained(
    model: Model,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    rng: np.random.Generator,
) -> Model:
    """Some steps of plain gradient descent on the cross-entropy."""
    moved = {name: value.copy() for name, value in model.items()}
    for _ in range(LOCAL_STEPS):
        batch = rng.integers(0, len(labels), min(BATCH, len(labels)))
        found = outputs(moved, images[batch])
        shares = np.exp(found[-1] - found[-1].max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(len(batch)), labels[batch]] -= 1
        back = shares / len(batch)
        for layer in reversed(range(len(LAYERS) - 1)):
            weight = moved[f"{layer}.weight"]
            below = back @ weight.T * (found[layer] > 0)
            weight -= np.float32(RATE) * (found[layer].T @ back)
            moved[f"{layer}.bias"] -= np.float32(RATE) * back.sum(0)
            back = below
    return moved


if __name__ == "__main__":
    sys.exit(main())
