"""`reefleet model`: make the first shared model, from public data or from published weights."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.geometry.presets import NAMES

if TYPE_CHECKING:
    from reefleet.learning.published import Imported
    from reefleet.model import ModelContract

PRETRAIN_EXAMPLE = """\
example:
  reefleet model pretrain --contract contract.json --data public.npz --out weights.safetensors
"""
IMPORT_EXAMPLE = """\
examples:
  reefleet model import model.safetensors --contract contract.json --out weights.safetensors
  reefleet model import model.safetensors --name deit-small --labels cat,dog,none \\
      --write-contract contract.json --out weights.safetensors
"""
# ImageNet's, over the three channels: what published checkpoints were trained with.
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add `model` and its commands."""
    parser = subparsers.add_parser(
        "model",
        help="pretrain a model on public data, or import a published checkpoint",
        description="Make the first shared model.",
        epilog=PRETRAIN_EXAMPLE,
    )
    commands = parser.add_subparsers(dest="model_command", metavar="COMMAND", required=True)
    _add_pretrain(commands)
    _add_import(commands)


def run(options: argparse.Namespace) -> int:
    """Run the chosen command."""
    return {"pretrain": _pretrain, "import": _import}[options.model_command](options)


def _add_pretrain(commands: argparse._SubParsersAction[Any]) -> None:
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


def _add_import(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "import",
        help="take the backbone of a published ViT or DeiT",
        description=(
            "Read a safetensors file with the tensor names of timm or transformers. Patch and "
            "position embeddings are fitted to the input; Ree and the exits start afresh."
        ),
        epilog=IMPORT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="published safetensors file")
    geometry = parser.add_mutually_exclusive_group(required=True)
    geometry.add_argument("--contract", type=Path, help="model contract (JSON)")
    geometry.add_argument("--name", choices=NAMES, help="make the contract of this geometry")
    parser.add_argument("--out", required=True, type=Path, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the exits' weights (default: 0)")
    made = parser.add_argument_group("with --name")
    made.add_argument("--labels", help="names of the classes, separated by commas")
    made.add_argument("--write-contract", type=Path, help="JSON file to write the contract to")
    made.add_argument("--image-size", type=int, default=224, help="pixels a side (default: 224)")
    made.add_argument("--patch-size", type=int, default=16, help="pixels a side (default: 16)")
    made.add_argument("--channels", type=int, default=3, choices=(1, 3), help="(default: 3)")
    made.add_argument("--exits", default="3,6,9,12", help="blocks kept (default: 3,6,9,12)")


def _pretrain(options: argparse.Namespace) -> int:
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


def _import(options: argparse.Namespace) -> int:
    from safetensors.numpy import save

    from reefleet.blobs import write_atomic
    from reefleet.cli.inputs import read_contract
    from reefleet.learning.published import read

    named = options.name is not None
    contract = _named_contract(options) if named else read_contract(options.contract)
    imported = read(options.file, contract.spec, options.seed)
    write_atomic(options.out, save(imported.weights))
    if named:
        text = json.dumps(contract.to_json(), indent=2) + "\n"
        write_atomic(options.write_contract, text.encode())
    sys.stdout.write(json.dumps(_account(imported)) + "\n")
    return 0


def _named_contract(options: argparse.Namespace) -> ModelContract:
    from reefleet.errors import ConfigError
    from reefleet.geometry.presets import preset
    from reefleet.model import ModelContract, Preprocessing

    if not options.labels or options.write_contract is None:
        msg = "--name makes a new contract; give its --labels and where to --write-contract"
        raise ConfigError(msg)
    labels = tuple(label.strip() for label in options.labels.split(","))
    try:
        exits = tuple(int(depth) for depth in options.exits.split(","))
    except ValueError as error:
        msg = f"--exits is {options.exits!r}; give whole numbers separated by commas"
        raise ConfigError(msg) from error
    size, channels = options.image_size, options.channels
    spec = preset(options.name, len(labels), size, options.patch_size, channels, exits)
    return ModelContract(spec, Preprocessing(size, channels, IMAGENET_MEAN, IMAGENET_STD), labels)


def _account(imported: Imported) -> dict[str, Any]:
    return {
        "naming": imported.naming,
        "loaded": len(imported.loaded),
        "changed": list(imported.changed),
        "dropped": list(imported.dropped),
        "made": list(imported.made),
    }


def _progress(epoch: int, epochs: int, loss: float) -> None:
    sys.stderr.write(f"epoch {epoch}/{epochs} loss {loss:.4f}\n")
    sys.stderr.flush()
