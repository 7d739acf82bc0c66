"""Speech Commands (Warden 2018): WORD/SPEAKER_nohash_TAKE.wav, one second of 16 kHz each.

A clip becomes a log-mel picture of 98 frames and 40 bands. `testing_list.txt`, where the folder has
it, says which clips are the set's own test part. Clients are speakers.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.datasets.formats import Pair, Samples
from reefleet.datasets.logmel import log_mel, samples_in
from reefleet.errors import DamagedFile, MissingFile
from reefleet.model import LogMel

FRAMES, BANDS = 98, 40
SOUND = LogMel(16_000, -60.0, 40.0)
SAMPLE_BYTES = 2
TEST_LIST = "testing_list.txt"
NOISE = "_background_noise_"


def read_speech(folder: Path) -> Pair:
    """Every clip as a picture [1, frames, bands]; classes in the order of their words.

    Raises MissingFile where there is no clip, DamagedFile naming one of another form.
    """
    paths = sorted(path for path in folder.glob("*/*.wav") if path.parent.name != NOISE)
    if not paths:
        msg = f"there are no clips as WORD/NAME.wav in {folder}"
        raise MissingFile(msg)
    words = sorted({path.parent.name for path in paths})
    # Sorted, so that numbers do not depend on the order of a folder's entries.
    speakers = sorted({_speaker(path) for path in paths})
    samples = Samples(
        np.stack([_picture(path) for path in paths])[:, None],
        np.array([words.index(path.parent.name) for path in paths], np.int64),
        np.searchsorted(speakers, [_speaker(path) for path in paths]).astype(np.int64),
    )
    tests = _test_names(folder)
    held = np.array([f"{path.parent.name}/{path.name}" in tests for path in paths])
    if not held.any() or held.all():
        return samples, None
    return _rows(samples, ~held), _rows(samples, held)


def _speaker(path: Path) -> str:
    return path.stem.partition("_nohash_")[0]


def _picture(path: Path) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file, wave.open(file) as clip:
            form = (clip.getsampwidth(), clip.getnchannels(), clip.getframerate())
            data = clip.readframes(samples_in(FRAMES, SOUND))
    except (wave.Error, EOFError) as error:
        msg = f"{path} is not a WAV file of plain samples: {error}"
        raise DamagedFile(msg) from error
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise MissingFile(msg) from error
    if form != (SAMPLE_BYTES, 1, SOUND.sample_rate_hz):
        width, channels, rate = form
        msg = f"{path} has {8 * width} bits, {channels} channels, {rate} Hz; not 16, 1 and 16000"
        raise DamagedFile(msg)
    whole = len(data) - len(data) % SAMPLE_BYTES
    return log_mel(np.frombuffer(data[:whole], "<i2").astype(np.int16), SOUND, FRAMES, BANDS)


def _test_names(folder: Path) -> frozenset[str]:
    path = folder / TEST_LIST
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def _rows(samples: Samples, chosen: NDArray[np.bool_]) -> Samples:
    clients = None if samples.clients is None else samples.clients[chosen]
    return Samples(samples.images[chosen], samples.labels[chosen], clients)
