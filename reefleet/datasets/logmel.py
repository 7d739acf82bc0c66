"""Log-mel pictures of sound: what a model for keyword spotting reads, in bytes as images are.

25 ms Hann windows every 10 ms, a power spectrum of 512 points, triangular bands equally wide on
the HTK mel scale (2595 log10(1 + f / 700)) from 20 Hz to half the sample rate, decibels in a fixed
range mapped to 0..255. Axes are frame and band.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reefleet.model import LogMel

WINDOW_S, HOP_S = 0.025, 0.010
FFT_POINTS = 512
LOWEST_HZ = 20.0
FULL_SCALE = 32768.0  # of 16-bit samples
_FLOOR = 1e-10  # of power; silence has a logarithm then


def log_mel(
    samples: NDArray[np.int16], sound: LogMel, frames: int, bands: int
) -> NDArray[np.uint8]:
    """The picture [frames, bands] of a clip [n] at the sound's rate, cut or filled with silence."""
    window, hop = _extents(sound)
    clip = np.zeros(samples_in(frames, sound))
    kept = samples[: len(clip)]
    clip[: len(kept)] = kept / FULL_SCALE
    starts = hop * np.arange(frames)
    pieces = clip[starts[:, None] + np.arange(window)] * np.hanning(window)
    power = np.abs(np.fft.rfft(pieces, FFT_POINTS)) ** 2  # [frames, FFT_POINTS / 2 + 1]
    energy = power @ mel_bands(sound.sample_rate_hz, bands)
    decibels = 10 * np.log10(np.maximum(energy, _FLOOR))
    share = (decibels - sound.low_db) / (sound.high_db - sound.low_db)
    picture: NDArray[np.uint8] = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)
    return picture


def samples_in(frames: int, sound: LogMel) -> int:
    """Samples that this many frames are made of."""
    window, hop = _extents(sound)
    return (frames - 1) * hop + window


@lru_cache(maxsize=8)
def mel_bands(sample_rate_hz: int, bands: int) -> NDArray[np.float64]:
    """Weights [FFT_POINTS / 2 + 1, bands] of triangles that peak at 1."""
    edges = np.linspace(_mel(LOWEST_HZ), _mel(sample_rate_hz / 2), bands + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.arange(FFT_POINTS // 2 + 1) * (sample_rate_hz / FFT_POINTS)
    rise = (bins[:, None] - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    fall = (hertz[2:] - bins[:, None]) / (hertz[2:] - hertz[1:-1])
    weights: NDArray[np.float64] = np.maximum(0.0, np.minimum(rise, fall))
    return weights


def _extents(sound: LogMel) -> tuple[int, int]:
    return round(WINDOW_S * sound.sample_rate_hz), round(HOP_S * sound.sample_rate_hz)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
