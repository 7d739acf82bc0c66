"""A keyword model from contract to answer: 20 x 16 pictures of sound on both backbones."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from reefleet.datasets.logmel import log_mel
from reefleet.model import ConvGeometry, LogMel, ModelContract, ModelSpec, Preprocessing
from reefleet.wire.checkpoint import initial

SOUND = LogMel(8000, -60.0, 40.0)
PRE = Preprocessing(20, 1, 0.4, 0.2, 16, SOUND)
SPECS = {
    "vit": ModelSpec(20, 5, 1, 16, 2, 2, 2, (1, 2), image_width=16, patch_width=4),
    "conv": ModelSpec(
        20, 2, 1, 16, 1, 2, 2, (1, 2), image_width=16, conv=ConvGeometry(6, (6, 8), (1, 2))
    ),
}


@pytest.mark.parametrize("kind", SPECS)
def test_a_bundle_of_sound_answers_a_clip(
    kind: str, tmp_path: Path, reefleet: Callable[..., tuple[int, str, str]]
) -> None:
    contract = ModelContract(SPECS[kind], PRE, ("noise", "tone"))
    (tmp_path / "contract.json").write_text(json.dumps(contract.to_json()))
    save_file(initial(contract.spec, 0), tmp_path / "weights.safetensors")
    rng = np.random.default_rng(0)
    clips = rng.normal(0, 2000, (12, 2000)).astype(np.int16)
    pictures = np.stack([log_mel(clip, SOUND, 20, 16) for clip in clips])[:, None]
    labels = rng.integers(0, 2, 12)
    np.savez(tmp_path / "data.npz", validation_images=pictures, validation_labels=labels)
    code, _, error = reefleet(
        *("export", "build", tmp_path / "weights.safetensors", "--bits", 8, "--depth", 2),
        *("--contract", tmp_path / "contract.json", "--data", tmp_path / "data.npz"),
        *("--format", "onnx", "--form", "float32", "--out", tmp_path / "bundle"),
    )
    assert (code, error) == (0, "")
    with wave.open(str(tmp_path / "clip.wav"), "wb") as clip:
        clip.setparams((1, 2, 8000, 0, "NONE", ""))
        clip.writeframes(clips[0].tobytes())
    code, said, error = reefleet("edge", "infer", tmp_path / "bundle", tmp_path / "clip.wav")
    assert (code, error) == (0, "")
    assert said.split()[0] in {"noise", "tone"}
