"""Log-mel pictures against a computation by definition, and their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from reefleet.datasets.logmel import log_mel, mel_bands, samples_in
from reefleet.errors import ConfigError
from reefleet.model import LogMel, ModelContract, ModelSpec, Preprocessing

SOUND = LogMel(8000, -60.0, 40.0)
FRAMES, BANDS = 5, 6


def noise(count: int) -> NDArray[np.int16]:
    return np.random.default_rng(3).normal(0, 3000, count).astype(np.int16)


def energy_by_definition(frame: NDArray[np.float64], band: int) -> float:
    """Power of one windowed frame in one triangle on the mel scale, term by term."""
    mel = [2595 * math.log10(1 + hertz / 700) for hertz in (20.0, 4000.0)]
    step = (mel[1] - mel[0]) / (BANDS + 1)
    edges = [700 * (10 ** ((mel[0] + step * (band + n)) / 2595) - 1) for n in range(3)]
    total = 0.0
    for k in range(257):
        hertz = k * 8000 / 512
        if edges[0] < hertz < edges[2]:
            angle = -2j * math.pi * k / 512
            power = abs(sum(v * np.exp(angle * n) for n, v in enumerate(frame))) ** 2
            rising = hertz <= edges[1]
            width = edges[1] - edges[0] if rising else edges[2] - edges[1]
            total += power * ((hertz - edges[0]) if rising else (edges[2] - hertz)) / width
    return total


def test_a_picture_is_what_its_definition_says() -> None:
    samples = noise(5 * 80 + 200)
    picture = log_mel(samples, SOUND, FRAMES, BANDS)
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 199) for n in range(200)]
    for row, band in ((0, 0), (2, 3), (4, 5)):
        frame = samples[80 * row : 80 * row + 200] / 32768 * np.array(window)
        decibels = 10 * math.log10(energy_by_definition(frame, band))
        assert picture[row, band] == round(255 * (decibels + 60) / 100)


def test_a_tone_is_brightest_in_its_own_band() -> None:
    time = np.arange(8000) / 8000
    tone = (8000 * np.sin(2 * np.pi * 1000 * time)).astype(np.int16)
    picture = log_mel(tone, SOUND, 98, 40)
    assert picture.shape == (98, 40)
    peak = mel_bands(8000, 40)[64].argmax()  # bin 64 of 512 is 1 kHz
    assert (picture.argmax(1) == peak).all()


def test_a_short_clip_ends_in_silence_and_a_long_one_is_cut() -> None:
    samples = noise(samples_in(FRAMES, SOUND) + 500)
    whole = log_mel(samples[:-500], SOUND, FRAMES, BANDS)
    np.testing.assert_array_equal(log_mel(samples, SOUND, FRAMES, BANDS), whole)
    short = log_mel(samples[:200], SOUND, FRAMES, BANDS)
    np.testing.assert_array_equal(short[0], whole[0])
    assert not short[3:].any()
    assert not log_mel(samples[:0], SOUND, FRAMES, BANDS).any()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((44_100, -60.0, 40.0), "44100; it must be 1000 to 20000 Hz"),
        ((8000.0, -60.0, 40.0), "sample rate is 8000.0"),
        ((8000, 40.0, 40.0), "it must rise"),
        ((8000, float("nan"), 40.0), "it must rise"),
    ],
)
def test_a_rate_or_range_without_a_picture_is_refused(
    values: tuple[int, float, float], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        LogMel(*values)


def test_a_contract_of_sound_survives_json_and_has_one_channel() -> None:
    spec = ModelSpec(98, 14, 1, 16, 2, 1, 2, (1,), image_width=40, patch_width=10)
    pre = Preprocessing(98, 1, 0.4, 0.2, 40, SOUND)
    contract = ModelContract(spec, pre, ("no", "yes"))
    assert ModelContract.from_json(contract.to_json()) == contract
    colored = ModelSpec(98, 14, 3, 16, 2, 1, 2, (1,), image_width=40, patch_width=10)
    with pytest.raises(ConfigError, match="picture of sound has 1 channel"):
        ModelContract(colored, Preprocessing(98, 3, 0.4, 0.2, 40, SOUND), ("no", "yes"))
