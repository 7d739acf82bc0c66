"""Early exit on real handwriting: accuracy and latency of a staged bundle against its full depth.

Trains a small ViT on a pack of 28 x 28 digits, exports it with 4-bit weights, and lets the edge
client answer test digits that neither training nor the choice of thresholds has seen. Each digit is
answered twice in turn, at full depth and with early exit, in CPU time of one thread. Run it with
`python benchmarks/early_exit.py PACK`, PACK an .npz with train_images, train_label, test_images and
test_label; it ends with 1 where a figure misses its floor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from edge_client.inference import EarlyExitModel
from export.build import Recipe, build_submodel
from export.source import load
from export.targets import target_for
from reefleet.datasets.formats import read_pack
from reefleet.datasets.pack import Part, normalized
from reefleet.learning.pretraining import Pretraining, pretrain
from reefleet.model import ModelContract, ModelSpec, Preprocessing
from reefleet.plan import SubmodelPlan

SPEC = ModelSpec(
    image_size=28,
    patch_size=7,
    channels=1,
    width=48,
    heads=3,
    depth=6,
    classes=10,
    exits=(1, 2, 4, 6),
)
CONTRACT = ModelContract(SPEC, Preprocessing(28, 1, 0.13, 0.31), tuple("0123456789"))
BITS = 4
VALIDATION = 3000  # of the test digits, to choose thresholds on
LATENCY_FLOOR = 0.5
ACCURACY_FLOOR = 0.005
NOISE = 0.25
SEED = 0


def train(part: Part, samples: int, epochs: int, out: Path) -> None:
    """Train on the first `samples` of a seeded order and write the checkpoint."""
    chosen = np.random.default_rng(SEED).permutation(len(part))[:samples]
    images = torch.from_numpy(normalized(part.images[chosen], CONTRACT.preprocessing))
    labels = torch.from_numpy(part.labels[chosen])
    settings = Pretraining(epochs=epochs, noise=NOISE)
    begun = time.process_time()
    weights = pretrain(SPEC, images, labels, SEED, settings, _say)
    save_file({name: value.numpy() for name, value in weights.items()}, out)
    print(
        f"trained on {samples:,} digits, {epochs} epochs, {time.process_time() - begun:.0f} CPU s"
    )


def export(checkpoint: Path, validation: Part, folder: Path) -> None:
    """Build the bundle of the whole depth, thresholds chosen on `validation`."""
    plan = SubmodelPlan(SPEC.depth, BITS, 1, 1, 1, "float32")
    recipe = Recipe(plan, target_for(None, ["onnx"], []))
    built = build_submodel(load(checkpoint, CONTRACT), recipe, validation, folder)
    print(f"{'exit':>6}{'float32':>10}{f'{BITS} bits':>10}{'leave here':>12}   (validation digits)")
    for found in built.exits:
        print(
            f"{found.exit_depth:>6}{found.float_accuracy:>10.2%}{found.accuracy:>10.2%}"
            f"{found.early_exits:>12.1%}"
        )


def measure(folder: Path, test: Part) -> tuple[float, float]:
    """Print both ways of answering; gives the share of the time and the accuracy lost."""
    model = EarlyExitModel.open(folder)
    images = normalized(test.images, CONTRACT.preprocessing)
    spent, right = [0.0, 0.0], [0, 0]
    depths = []
    for image in images[:20]:
        model.answer(image[None])
    for image, label in zip(images, test.labels, strict=True):
        for way, full_depth in enumerate((True, False)):
            begun = time.thread_time()
            answer = model.answer(image[None], full_depth=full_depth)
            spent[way] += time.thread_time() - begun
            right[way] += answer.class_index == label
        depths.append(answer.exit_depth)
    count = len(test)
    for way, name in enumerate(("full depth", "early exit")):
        print(f"{name}: {right[way] / count:.2%} in {spent[way] / count * 1e3:.3f} ms on average")
    print(f"{count:,} test digits, {np.mean(depths):.2f} blocks on average")
    return spent[1] / spent[0], (right[0] - right[1]) / count


def main() -> int:
    """Train where there is no checkpoint, export, measure; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description="Early exit on real digits.")
    parser.add_argument("pack", type=Path, metavar="PACK", help=".npz of 28 x 28 digits")
    parser.add_argument("--checkpoint", type=Path, help="kept there, and used where it exists")
    parser.add_argument("--samples", type=int, default=10_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pack, own = read_pack(options.pack)
    if own is None:
        parser.error("the pack has no test digits")
    order = np.random.default_rng(SEED).permutation(len(own))
    parts = [Part(own.images[rows], own.labels[rows]) for rows in np.split(order, [VALIDATION])]
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = options.checkpoint or Path(scratch) / "weights.safetensors"
        if not checkpoint.exists():
            part = Part(pack.images, pack.labels)
            train(part, options.samples, options.epochs, checkpoint)
        export(checkpoint, parts[0], Path(scratch) / "bundle")
        share, lost = measure(Path(scratch) / "bundle", parts[1])
    kept = share <= LATENCY_FLOOR and lost <= ACCURACY_FLOOR
    print(
        f"early exit / full depth {share:.3f} (at most {LATENCY_FLOOR:g}), accuracy lost "
        f"{100 * lost:.2f} points (at most {100 * ACCURACY_FLOOR:g}) {'ok' if kept else 'MISSED'}"
    )
    return int(not kept)


def _say(epoch: int, epochs: int, loss: float) -> None:
    sys.stderr.write(f"epoch {epoch}/{epochs} loss {loss:.4f}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
