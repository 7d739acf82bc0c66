"""Measures an accuracy table by exit depth and bits, in the form that the planner reads.

    python benchmarks/accuracy_table.py --out accuracy.json                  (the demo's digits)
    python benchmarks/accuracy_table.py --contract c.json --weights w.safetensors --data d.npz ...

Accuracy is of the packed sub-model on held-out data before any fine-tuning on a board: the
validation part of the data, or the digits that were not used to pretrain.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from coordinator.planner import AccuracyTable
from export.parity import torch_logits
from export.quantize import quantize
from reefleet.cli.inputs import read_contract
from reefleet.datasets.digits import digits
from reefleet.datasets.pack import Part, load_parts, normalized
from reefleet.demo.scenario import CONTRACT
from reefleet.learning.pretraining import Pretraining, pretrain
from reefleet.learning.sensitivity import measure_harm
from reefleet.model import ModelContract
from reefleet.wire import checkpoint

BITS = (1, 2, 3, 4, 5, 6, 8)
SEED = 0
HELD_OUT = 360

Weights = dict[str, NDArray[np.float32]]


def measured(contract: ModelContract, weights: Weights, part: Part, source: str) -> AccuracyTable:
    """Accuracy of every exit at every bit-width on held-out data, and each tensor's sensitivity."""
    spec = contract.spec
    images = normalized(part.images, contract.preprocessing)
    columns = []
    for bits in BITS:
        logits = torch_logits(quantize(weights, spec, spec.depth, bits), spec, spec.depth, images)
        columns.append((logits.argmax(-1) == part.labels[:, None]).mean(0).round(4).tolist())
    rows = tuple(tuple(row) for row in zip(*columns, strict=True))
    params = {name: torch.from_numpy(value) for name, value in weights.items()}
    labels = torch.from_numpy(part.labels)
    found = measure_harm(spec, spec.depth, params, torch.from_numpy(images), labels)
    harm = tuple((name, tuple(float(f"{h:.4g}") for h in found[name])) for name in sorted(found))
    return AccuracyTable(f"{source}, {len(part)} held-out samples", spec.exits, BITS, rows, harm)


def of_digits() -> AccuracyTable:
    """The table of the demo's network, pretrained here on the digits that are not held out."""
    images, labels = digits()
    order = np.random.default_rng(SEED).permutation(len(labels))
    held, public = order[:HELD_OUT], order[HELD_OUT:]
    inputs = torch.from_numpy(normalized(images[public], CONTRACT.preprocessing))
    params = pretrain(
        CONTRACT.spec,
        inputs,
        torch.from_numpy(labels[public]),
        SEED,
        Pretraining(),
        lambda *_: None,
    )
    weights = {name: value.numpy() for name, value in params.items()}
    return measured(CONTRACT, weights, Part(images[held], labels[held]), "demo network, digits")


def main() -> None:
    """Measure, write the file where asked, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contract", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.weights:
        contract = read_contract(options.contract)
        weights = checkpoint.load(options.weights, contract.spec)
        part = load_parts(options.data, ["validation"])[0]
        table = measured(contract, weights, part, options.weights.name)
    else:
        table = of_digits()
    print(f"{table.source}\n{'depth':>6}" + "".join(f"{f'{bits} bits':>9}" for bits in table.bits))
    for depth, row in zip(table.depths, table.rows, strict=True):
        print(f"{depth:>6}" + "".join(f"{value:>9.4f}" for value in row))
    if options.out:
        options.out.write_text(json.dumps(table.to_json(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
