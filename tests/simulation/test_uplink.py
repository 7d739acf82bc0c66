from __future__ import annotations

import numpy as np
import pytest

from reefleet.plan import UPLOAD_CODECS
from reefleet.simulation.uplink import RAW, send, without_residual

SHAPE = (40, 50)


def a_delta(seed: int) -> dict[str, np.ndarray]:
    return {"w": np.random.default_rng(seed).normal(0, 0.01, SHAPE).astype(np.float32)}


@pytest.mark.parametrize("codec", [codec for codec in UPLOAD_CODECS if codec != RAW])
def test_what_arrives_over_many_rounds_is_what_was_sent_but_for_the_last_loss(codec: str) -> None:
    kept: dict[str, np.ndarray] = {"personal/w": np.ones(3, np.float32)}
    arrived, trained = np.zeros(SHAPE, np.float64), np.zeros(SHAPE, np.float64)
    for seed in range(5):
        found = send(a_delta(seed), codec, kept)
        kept = {**without_residual(kept), **found.lost}
        arrived += found.delta["w"]
        trained += a_delta(seed)["w"]
        assert found.size_bytes < 0.6 * 4 * arrived.size
    (lost,) = found.lost.values()
    np.testing.assert_allclose(arrived + lost, trained, atol=1e-6)
    assert set(without_residual(kept)) == {"personal/w"}


def test_raw_updates_arrive_as_they_are() -> None:
    found = send(a_delta(0), RAW, {})
    assert found.delta["w"].tobytes() == a_delta(0)["w"].tobytes()
    assert (found.size_bytes, found.lost) == (4 * 2000, {})
