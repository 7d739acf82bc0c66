"""What a build refuses: one sentence, an exit code, nothing left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from tests.export.conftest import Inputs

Run = Callable[..., tuple[int, str, str]]


def build(inputs: Inputs, *arguments: object) -> list[object]:
    return ["export", "build", inputs.checkpoint, *inputs.arguments, *arguments]


def spoiled(inputs: Inputs, tmp_path: Path, change: Callable[[dict[str, object]], None]) -> Path:
    weights: dict[str, object] = {name: value.copy() for name, value in inputs.weights.items()}
    change(weights)
    save_file(weights, tmp_path / "spoiled.safetensors")  # type: ignore[arg-type]
    return tmp_path / "spoiled.safetensors"


def _nan(weights: dict[str, object]) -> None:
    weights["head.bias"] = np.full(4, np.nan, np.float32)


def _short(weights: dict[str, object]) -> None:
    weights["head.bias"] = np.zeros(3, np.float32)


def _extra(weights: dict[str, object]) -> None:
    weights["head.extra"] = np.zeros(3, np.float32)


def _missing(weights: dict[str, object]) -> None:
    del weights["cls_token"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_nan, "tensor 'head.bias' holds NaN or infinity"),
        (_short, "tensor 'head.bias' has shape (3,), expected (4,)"),
        (_extra, "tensor 'head.extra' is unknown"),
        (_missing, "tensor 'cls_token' is missing"),
    ],
)
def test_a_spoiled_checkpoint_is_refused_by_the_name_of_its_tensor(
    change: Callable[[dict[str, object]], None],
    sentence: str,
    inputs: Inputs,
    tmp_path: Path,
    reefleet: Run,
) -> None:
    model = spoiled(inputs, tmp_path, change)
    made = ["--device", "rpi-4b", "--out", tmp_path / "out"]
    code, _, error = reefleet("export", "build", model, *inputs.arguments, *made)
    assert code == 65
    assert sentence in error
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--device", "rpi-9"], 70, "board 'rpi-9' is not in the catalog; did you mean rpi-"),
        (["--device", "rpi-4b", "--format", "tensorrt"], 78, "rpi-4b has no TensorRT"),
        (["--device", "rpi-4b", "--depth", "5"], 78, "depth 5 is not one of the exits (1, 2, 3)"),
        (["--device", "rpi-4b", "--bits", "9"], 78, "bits = 9 is out of range"),
        (["--device", "jetson-nano-4gb", "--format", "tflite"], 78, "litert has no wheel"),
        (["--device", "rpi-4b", "--format", "onnx", "--form", "int4"], 78, "no int4 form for onnx"),
        (["--depth", "1"], 78, "name a board with --device, or both --depth and --bits"),
        (["--device", "jetson-orin-nano", "--jetpack", "7.2"], 78, "runs JetPack 5.1, 6.0, 6.2"),
        (["--device", "rpi-4b", "--batch", "0"], 78, "--batch is 0; it must be at least 1"),
        (
            ["--depth", "1", "--bits", "5", "--format", "tflite", "--form", "int4"],
            78,
            "int4 holds at most 4 bits a weight, the plan has 5",
        ),
    ],
)
def test_what_cannot_be_built_ends_with_one_sentence_and_no_leftovers(
    arguments: list[str], code: int, sentence: str, inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    found, _, error = reefleet(*build(inputs, *arguments, "--out", tmp_path / "out"))
    assert found == code
    assert sentence in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--data", "--calibration"])
def test_no_samples_are_too_few(flag: str, inputs: Inputs, tmp_path: Path, reefleet: Run) -> None:
    empty = tmp_path / "empty.npz"
    images, labels = np.zeros((0, 3, 8, 8), np.uint8), np.zeros(0, np.int64)
    np.savez(empty, validation_images=images, validation_labels=labels)
    made = ["--device", "jetson-orin-nano", flag, empty, "--out", tmp_path / "out"]
    code, _, error = reefleet(*build(inputs, *made))
    assert code == 70
    assert "samples; at least one is needed" in error
    assert list(tmp_path.iterdir()) == [empty]


def test_a_full_disk_is_named_and_nothing_stays(
    inputs: Inputs, tmp_path: Path, reefleet: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    out = tmp_path / "out"
    code, _, error = reefleet(*build(inputs, "--depth", 1, "--bits", 1, "--out", out))
    assert code == 74
    assert f"cannot write the bundle {out}: No space left on device" in error
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_disk_refuses_leaves_nothing_in_a_real_process(
    inputs: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    limited = 'ulimit -f 8; exec "$@"'  # blocks of 512 bytes, in every file of the process
    made = build(inputs, "--depth", 1, "--bits", 1, "--out", out)
    command = ["sh", "-c", limited, "sh", sys.executable, "-m", "reefleet", *map(str, made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 74, done.stderr
    assert done.stderr == f"reefleet: cannot write the bundle {out}: File too large\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "code", "sentence"),
    [("nowhere", 66, "there is no model"), ("", 66, "is no sub-model: ")],
)
def test_a_model_that_is_not_there_is_named(
    model: str, code: int, sentence: str, inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    made = ["--depth", 1, "--bits", 1, "--out", tmp_path / "out"]
    found, _, error = reefleet("export", "build", tmp_path / model, *inputs.arguments, *made)
    assert found == code
    assert sentence in error
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(inputs: Inputs, tmp_path: Path, reefleet: Run) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    code, _, error = reefleet(*build(inputs, "--depth", 1, "--bits", 1, "--out", out))
    assert code == 74
    assert f"cannot write in {tmp_path / 'file'}: " in error


def test_a_folder_with_other_things_is_refused_before_the_work(
    inputs: Inputs, tmp_path: Path, reefleet: Run
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, error = reefleet(*build(inputs, "--depth", 1, "--bits", 1, "--out", tmp_path))
    assert code == 65
    assert "exists and is not a bundle" in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
