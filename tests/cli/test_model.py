"""`reefleet model`: a convolutional contract is trained, a published checkpoint is taken over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reefleet.cli import main
from reefleet.cli.inputs import read_contract
from reefleet.model import ConvGeometry, ModelContract, ModelSpec, Preprocessing, tensor_shapes
from reefleet.wire.checkpoint import load

CONV = ModelContract(
    ModelSpec(8, 1, 1, 16, 1, 2, 2, (1, 2), conv=ConvGeometry(4, (4, 8), (1, 2))),
    Preprocessing(8, 1, 0.5, 0.25),
    ("dark", "light"),
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reefleet(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit code, stdout, the last line of stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, (err.strip().splitlines() or [""])[-1]

    return run


def a_deit_tiny(path: Path, depth: int = 12) -> Path:
    """A file with timm's names and a DeiT-Ti's shapes, cut at `depth`."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 192),
        "pos_embed": (1, 197, 192),
        "patch_embed.proj.weight": (192, 3, 16, 16),
        "patch_embed.proj.bias": (192,),
        "norm.weight": (192,),
        "norm.bias": (192,),
        "head.weight": (1000, 192),
        "head.bias": (1000,),
    }
    spec = ModelSpec(224, 16, 3, 192, 3, depth, 2, (depth,))
    shapes |= {n: s for n, s in tensor_shapes(spec).items() if n.startswith("blocks.")}
    rng = np.random.default_rng(0)
    save_file({n: rng.standard_normal(s, np.float32) for n, s in shapes.items()}, path)
    return path


def test_a_convolutional_contract_can_be_pretrained(tmp_path: Path, reefleet: Run) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 96)
    images = (rng.integers(0, 100, (96, 1, 8, 8)) + 150 * labels[:, None, None, None]).astype("u1")
    np.savez(tmp_path / "public.npz", train_images=images, train_labels=labels)
    (tmp_path / "contract.json").write_text(json.dumps(CONV.to_json()))
    out = tmp_path / "weights.safetensors"
    code, said, _ = reefleet(
        *("model", "pretrain", "--contract", tmp_path / "contract.json", "--epochs", 8),
        *("--data", tmp_path / "public.npz", "--out", out),
    )
    assert code == 0
    assert json.loads(said)["train_accuracy"][-1] > 0.9
    assert set(load(out, CONV.spec)) == set(tensor_shapes(CONV.spec))


def test_a_named_import_writes_weights_and_contract(tmp_path: Path, reefleet: Run) -> None:
    file = a_deit_tiny(tmp_path / "published.safetensors")
    out, contract_file = tmp_path / "weights.safetensors", tmp_path / "contract.json"
    code, said, _ = reefleet(
        *("model", "import", file, "--name", "deit-tiny", "--labels", "a, b", "--out", out),
        *("--write-contract", contract_file, "--image-size", 32, "--patch-size", 4),
    )
    assert code == 0
    account = json.loads(said)
    assert (account["naming"], account["loaded"]) == ("timm", 4 + 12 * 12)
    assert account["dropped"] == ["head.bias", "head.weight", "norm.bias", "norm.weight"]
    assert account["changed"] == [
        "patch_embed from 16 x 16 pixels to 4 x 4",
        "pos_embed from 14 x 14 to 8 x 8",
    ]
    contract = read_contract(contract_file)
    assert contract.labels == ("a", "b")
    assert (contract.spec.width, contract.spec.heads, contract.spec.tokens) == (192, 3, 65)
    weights, published = load(out, contract.spec), load_file(file)
    name = "blocks.11.attn.qkv.weight"
    np.testing.assert_array_equal(weights[name], published[name])


def test_an_import_that_does_not_fit_leaves_nothing(tmp_path: Path, reefleet: Run) -> None:
    file = a_deit_tiny(tmp_path / "published.safetensors", depth=2)
    code, said, error = reefleet(
        *("model", "import", file, "--name", "deit-tiny", "--labels", "a,b"),
        *("--out", tmp_path / "w", "--write-contract", tmp_path / "c"),
    )
    assert code != 0
    assert said == ""
    assert "tensor 'blocks.2.norm1.weight' is missing" in error
    assert [path.name for path in tmp_path.iterdir()] == ["published.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--name", "deit-tiny"), "give its --labels"),
        (("--name", "deit-tiny", "--labels", "a"), "where to --write-contract"),
        (
            ("--name", "deit-tiny", "--labels", "a", "--write-contract", "c", "--exits", "x"),
            "--exits is 'x'",
        ),
        (("--contract", "missing.json"), "cannot read missing.json"),
    ],
)
def test_a_contract_that_is_not_given_whole_is_asked_for(
    arguments: tuple[str, ...], text: str, tmp_path: Path, reefleet: Run
) -> None:
    code, _, error = reefleet("model", "import", "f", "--out", tmp_path / "w", *arguments)
    assert code != 0
    assert text in error
