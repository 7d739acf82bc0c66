from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from reefleet.datasets.corpus import open_corpus
from reefleet.datasets.logmel import log_mel
from reefleet.datasets.speech import BANDS, FRAMES, SOUND
from reefleet.errors import DamagedFile, MissingFile

RATE = 16_000


def a_tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(RATE * seconds)) / RATE
    return np.rint(8000 * np.sin(2 * np.pi * hertz * time)).astype("<i2")


def written(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(rate)
        clip.writeframes(samples.tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for word, hertz in (("yes", 1000.0), ("no", 300.0)):
        for speaker in ("b2", "a1"):
            written(tmp_path / word / f"{speaker}_nohash_0.wav", a_tone(hertz))
    written(tmp_path / "_background_noise_" / "hiss.wav", a_tone(50.0))
    return tmp_path


def test_clips_become_pictures_with_word_and_speaker(folder: Path) -> None:
    corpus = open_corpus("speech", folder)
    assert corpus.test is None
    assert corpus.classes == 2
    assert corpus.train.images.shape == (4, 1, FRAMES, BANDS)
    assert corpus.train.labels.tolist() == [0, 0, 1, 1]
    assert corpus.train.clients is not None
    assert corpus.train.clients.tolist() == [0, 1, 0, 1]
    expected = log_mel(a_tone(300.0), SOUND, FRAMES, BANDS)
    assert np.array_equal(corpus.train.images[0, 0], expected)
    loudest = corpus.train.images.mean((1, 2)).argmax(-1)
    assert loudest[0] < loudest[2]


def test_the_testing_list_makes_the_test_part(folder: Path) -> None:
    (folder / "testing_list.txt").write_text("no/a1_nohash_0.wav\n")
    corpus = open_corpus("speech", folder)
    assert corpus.test is not None
    assert (len(corpus.train), corpus.test.labels.tolist()) == (3, [0])


def test_a_clip_of_another_form_is_named(folder: Path) -> None:
    written(folder / "no" / "c3_nohash_0.wav", a_tone(300.0), 8000)
    with pytest.raises(DamagedFile, match=r"c3_nohash_0\.wav.*8000"):
        open_corpus("speech", folder)
    (folder / "no" / "c3_nohash_0.wav").write_bytes(b"RIFFnot a clip")
    with pytest.raises(DamagedFile, match="not a WAV"):
        open_corpus("speech", folder)


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="no clips"):
        open_corpus("speech", tmp_path)
