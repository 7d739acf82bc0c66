"""Reading a clip: rates, channels, length, and files that are none."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_client.sound import read
from reefleet.datasets.logmel import log_mel
from reefleet.errors import DamagedFile, InputError, MissingFile
from reefleet.model import LogMel, Preprocessing

SOUND = LogMel(8000, -60.0, 40.0)
PRE = Preprocessing(20, 1, 0.5, 0.25, 12, SOUND)


def chirp(rate: int, seconds: float = 0.25) -> NDArray[np.int16]:
    time = np.arange(round(rate * seconds)) / rate
    return (9000 * np.sin(2 * np.pi * (300 + 2000 * time) * time)).astype(np.int16)


def a_clip(path: Path, samples: NDArray[np.int16], rate: int = 8000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(channels)
        clip.setsampwidth(2)
        clip.setframerate(rate)
        clip.writeframes(samples.astype("<i2").tobytes())
    return path


def test_a_clip_becomes_the_models_input(tmp_path: Path) -> None:
    samples = chirp(8000)
    values = read(a_clip(tmp_path / "a.wav", samples), PRE)
    assert (values.shape, values.dtype) == ((1, 1, 20, 12), np.float32)
    expected = (log_mel(samples, SOUND, 20, 12) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(values[0, 0], expected, atol=1e-6)


def test_both_channels_are_mixed(tmp_path: Path) -> None:
    left = chirp(8000)
    both = np.stack([left, np.zeros_like(left)], 1)
    stereo = read(a_clip(tmp_path / "stereo.wav", both, channels=2), PRE)
    half = read(a_clip(tmp_path / "half.wav", np.rint(left / 2).astype(np.int16)), PRE)
    np.testing.assert_allclose(stereo, half, atol=0.02)


@pytest.mark.parametrize("rate", [16_000, 44_100, 4000])
def test_another_rate_is_brought_to_the_models(rate: int, tmp_path: Path) -> None:
    # Below 1 kHz, which every one of these rates can hold.
    time = np.arange(rate // 4) / rate
    tone = (9000 * np.sin(2 * np.pi * 700 * time)).astype(np.int16)
    values = read(a_clip(tmp_path / "a.wav", tone, rate), PRE)
    plain = (9000 * np.sin(2 * np.pi * 700 * np.arange(2000) / 8000)).astype(np.int16)
    expected = read(a_clip(tmp_path / "b.wav", plain), PRE)
    loud = expected > 1.0
    assert loud.any()
    np.testing.assert_allclose(values[loud], expected[loud], atol=0.1)


def test_a_header_that_claims_more_than_the_picture_shows_takes_no_memory(tmp_path: Path) -> None:
    path = a_clip(tmp_path / "a.wav", chirp(8000))
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFFFF00)
    path.write_bytes(data)
    assert read(path, PRE).shape == (1, 1, 20, 12)


def test_an_empty_clip_is_silence(tmp_path: Path) -> None:
    values = read(a_clip(tmp_path / "a.wav", chirp(8000)[:0]), PRE)
    assert (values == values.min()).all()


def test_a_file_that_is_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"gone\.wav"):
        read(tmp_path / "gone.wav", PRE)
    for content in (b"", b"hello", b"RIFF\x00\x00\x00\x00WAVE"):
        (tmp_path / "a.wav").write_bytes(content)
        with pytest.raises(DamagedFile, match=r"a\.wav is not a WAV file"):
            read(tmp_path / "a.wav", PRE)


def test_samples_of_eight_bits_are_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(1)
        clip.setframerate(8000)
        clip.writeframes(b"\x80" * 100)
    with pytest.raises(DamagedFile, match="8 bits; 16 are read"):
        read(tmp_path / "a.wav", PRE)


def test_a_model_of_images_reads_no_sound(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads images, not sound"):
        read(a_clip(tmp_path / "a.wav", chirp(8000)), Preprocessing(8, 1, 0.5, 0.25))
