"""`reefleet model`: make the first shared model."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

PRETRAIN_EXAMPLE = """\
example:
  reefleet model pretrain --contract contract.json --data public.npz --out weights.safetensors
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add `model` and its command."""
    parser = subparsers.add_parser(
        "model",
        help="pretrain a model on public data",
        description="Make the first shared model.",
        epilog=PRETRAIN_EXAMPLE,
    )
    commands = parser.add_subparsers(dest="model_command", metavar="COMMAND", required=True)
    pretrain = commands.add_parser(
        "pretrain",
        help="train the full model on public data",
        description="Train every exit of the full model; one line an epoch on stderr.",
        epilog=PRETRAIN_EXAMPLE,
    )
    pretrain.add_argument("--contract", required=True, type=Path, help="model contract (JSON)")
    pretrain.add_argument("--data", required=True, type=Path, help=".npz with train_images/_labels")
    pretrain.add_argument("--out", required=True, type=Path, help="safetensors file to write")
    pretrain.add_argument("--seed", type=int, default=0, help="of weights and order (default: 0)")
    pretrain.add_argument("--epochs", type=int, help="over the public data (default: 60)")


def run(options: argparse.Namespace) -> int:
    """Pretrain and write the checkpoint."""
    from export.pretrain import pretrain_to
    from reefleet.cli.inputs import read_contract
    from reefleet.datasets.pack import load_parts
    from reefleet.learning.pretraining import Pretraining

    contract = read_contract(options.contract)
    (part,) = load_parts(options.data, ("train",))
    settings = Pretraining(epochs=options.epochs) if options.epochs else Pretraining()
    begun = time.perf_counter()
    result = pretrain_to(options.out, contract, part, options.seed, settings, _progress)
    seconds = round(time.perf_counter() - begun, 2)
    sys.stdout.write(json.dumps({**asdict(result), "seconds": seconds}) + "\n")
    return 0


def _progress(epoch: int, epochs: int, loss: float) -> None:
    sys.stderr.write(f"epoch {epoch}/{epochs} loss {loss:.4f}\n")
    sys.stderr.flush()
