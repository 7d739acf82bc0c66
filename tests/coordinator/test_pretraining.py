"""The first version: a checkpoint, a pretrained or a random model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from coordinator.children import Children
from coordinator.pretraining import pretrain
from reefleet.errors import DamagedFile, ExportError, MissingFile
from reefleet.model import ModelContract, tensor_shapes
from reefleet.wire.checkpoint import initial, load


def test_a_random_model_has_every_tensor_and_repeats_by_seed(contract: ModelContract) -> None:
    model = initial(contract.spec, 1)
    assert {n: v.shape for n, v in model.items()} == tensor_shapes(contract.spec)
    again, other = initial(contract.spec, 1), initial(contract.spec, 2)
    assert all(np.array_equal(model[name], again[name]) for name in model)
    assert not np.array_equal(model["head.weight"], other["head.weight"])


def test_a_checkpoint_comes_back_bit_for_bit(contract: ModelContract, tmp_path: Path) -> None:
    model = initial(contract.spec, 3)
    save_file(model, tmp_path / "w.safetensors")
    found = load(tmp_path / "w.safetensors", contract.spec)
    assert all(np.array_equal(model[name], found[name]) for name in model)


def test_a_checkpoint_that_is_not_this_model_is_refused_by_tensor(
    contract: ModelContract, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    good = initial(contract.spec, 3)
    bad = {
        "head.bias' is missing": {n: v for n, v in good.items() if n != "head.bias"},
        "extra' is unknown": {**good, "extra": np.zeros(1, np.float32)},
        "head.bias' has shape": {**good, "head.bias": np.zeros(9, np.float32)},
        "head.bias' holds NaN": {**good, "head.bias": np.full(3, np.nan, np.float32)},
    }
    for words, model in bad.items():
        save_file(model, path)
        with pytest.raises(DamagedFile, match=words):
            load(path, contract.spec)
    path.write_bytes(b"noise")
    with pytest.raises(DamagedFile, match="safetensors"):
        load(path, contract.spec)
    with pytest.raises(MissingFile):
        load(tmp_path / "absent", contract.spec)


def test_pretraining_runs_apart_and_its_weights_are_taken(
    contract: ModelContract, tmp_path: Path
) -> None:
    model = initial(contract.spec, 5)
    save_file(model, tmp_path / "made.safetensors")
    (tmp_path / "public.npz").write_bytes(b"data")
    code = (
        "import sys, shutil; a = sys.argv; assert a[a.index('--seed') + 1] == '7';"
        f"shutil.copy({str(tmp_path / 'made.safetensors')!r}, a[a.index('--out') + 1])"
    )
    command = [sys.executable, "-c", code]
    found = pretrain(contract, tmp_path / "public.npz", 7, tmp_path, Children(), command)
    assert np.array_equal(found["head.weight"], model["head.weight"])
    assert list(tmp_path.glob("pretrain-*")) == []


def test_pretraining_that_fails_says_why(contract: ModelContract, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('bad data')"]
    with pytest.raises(MissingFile):
        pretrain(contract, tmp_path / "absent.npz", 0, tmp_path, Children(), command)
    (tmp_path / "public.npz").write_bytes(b"data")
    with pytest.raises(ExportError, match="bad data"):
        pretrain(contract, tmp_path / "public.npz", 0, tmp_path, Children(), command)
