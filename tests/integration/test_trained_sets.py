"""A fleet that trains low-rank matrices and exits alone, on the convolutional backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_client.inference import EarlyExitModel
from reefleet.model import ConvGeometry, sent_shapes, tensor_shapes
from reefleet.wire.codecs import decode_update
from tests.integration.fleet import SMALL, Rules, Site, a_contract

pytestmark = pytest.mark.integration

CONV = replace(SMALL, patch_size=1, heads=1, conv=ConvGeometry(6, (6, 8), (1, 2)))
HELD = replace(CONV, adapter="lora")
BUDGET = 'min_bits = 8\nmodel_share = 1.0\n[model]\ntrained = "lora"\n'


def test_devices_send_the_trained_set_and_nothing_else_moves(
    compiled: Path, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", a_contract(CONV), compiled, Rules(budget=BUDGET))
    try:
        site.start()
        client = site.client("a")
        client.start()
        assert client.end() == 0
        (update,) = site.updates()
        sent = sent_shapes(HELD, 2, "lora")
        delta = decode_update(site.blobs.read(update.artifact.sha256), sent)
        assert any(value.any() for name, value in delta.items() if ".lora." in name)
        before, after = (
            decode_update(site.blobs.read(site.wait_for_version(n).sha256), tensor_shapes(HELD))
            for n in (0, 1)
        )
    finally:
        site.close()
    moved = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    assert moved == {name for name, value in delta.items() if value.any()}
    assert not [n for n in moved if n.startswith(("blocks.", "stem.")) and ".lora." not in n]
    model = EarlyExitModel.open(site.state_of("a") / "submodel")
    assert model.manifest.model == HELD
    assert model.manifest.plan.trained == "lora"
    image = np.zeros((1, 1, 4, 4), np.float32)
    assert model.answer(image).label in {"a", "b", "c"}
