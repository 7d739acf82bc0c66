"""One WAV clip as the model's input: 16-bit PCM, at any rate, the channels mixed into one."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reefleet.datasets.logmel import log_mel, samples_in
from reefleet.datasets.pack import normalize
from reefleet.errors import DamagedFile, InputError, MissingFile
from reefleet.model import LogMel, Preprocessing

SAMPLE_BYTES = 2
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 16


def read(path: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The beginning of a clip as a normalised log-mel picture: float32 [1, 1, frames, bands].

    Raises InputError where the model reads no sound, MissingFile, or DamagedFile where the file is
    no WAV of 16-bit samples.
    """
    if preprocessing.sound is None:
        msg = f"the model reads images, not sound; {path} was not read"
        raise InputError(msg)
    _, frames, bands = preprocessing.shape
    samples = _clip(path, preprocessing.sound, samples_in(frames, preprocessing.sound))
    picture = log_mel(samples, preprocessing.sound, frames, bands)
    values = np.empty((1, 1, frames, bands), np.float32)
    normalize(picture[None, None], preprocessing, values)
    return values


def _clip(path: Path, sound: LogMel, wanted: int) -> NDArray[np.int16]:
    try:
        with path.open("rb") as file, wave.open(file) as clip:
            return _samples(clip, path, sound.sample_rate_hz, wanted)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        msg = f"the clip {path} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error
    except (wave.Error, EOFError) as error:
        msg = f"{path} is not a WAV file of plain samples: {error}"
        raise DamagedFile(msg) from error


def _samples(clip: wave.Wave_read, path: Path, rate_hz: int, wanted: int) -> NDArray[np.int16]:
    found, channels = clip.getframerate(), clip.getnchannels()
    if clip.getsampwidth() != SAMPLE_BYTES:
        msg = f"{path} has samples of {8 * clip.getsampwidth()} bits; 16 are read"
        raise DamagedFile(msg)
    if not 0 < found <= MAX_RATE_HZ or not 0 < channels <= MAX_CHANNELS:
        msg = f"{path} claims {channels} channels at {found} Hz"
        raise DamagedFile(msg)
    # No more than the picture shows, so that no header decides how much memory is taken.
    data = clip.readframes(math.ceil(wanted * found / rate_hz))
    whole = len(data) - len(data) % (SAMPLE_BYTES * channels)
    mixed = np.frombuffer(data[:whole], "<i2").reshape(-1, channels).mean(1)
    return _at_rate(mixed, found, rate_hz)


def _at_rate(samples: NDArray[np.float64], found_hz: int, wanted_hz: int) -> NDArray[np.int16]:
    """The same sound at another rate, by cutting or filling its spectrum."""
    if found_hz != wanted_hz and len(samples):
        count = round(len(samples) * wanted_hz / found_hz)
        spectrum = np.fft.rfft(samples)
        samples = np.fft.irfft(spectrum[: count // 2 + 1], count) * (count / len(samples))
    rounded: NDArray[np.int16] = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
    return rounded
