"""What the demo plays: five boards, a small ReeFL network for 8 x 8 digits, a tight budget."""

from __future__ import annotations

import json
from pathlib import Path

from reefleet.model import ModelContract, ModelSpec, Preprocessing

BOARDS = ("rpi-zero2w", "rpi-3b-plus", "rpi-4b", "rpi-5", "jetson-orin-nano")

CONTRACT = ModelContract(
    ModelSpec(
        image_size=8,
        patch_size=2,
        channels=1,
        width=64,
        heads=4,
        depth=6,
        classes=10,
        exits=(1, 2, 4, 6),
    ),
    # Mean and deviation of the set's pixels.
    Preprocessing(size=8, channels=1, mean=0.305, std=0.376),
    tuple(str(digit) for digit in range(10)),
)

# A network this small fits every board whole. The budget below is as tight for it as a full-size
# network would make it, so that boards of different size get different sub-models.
SETTINGS = """\
fleet = "demo"

[listen]
host = "127.0.0.1"
fleet_port = 0
enrollment_port = 0

[rounds]
total = {rounds}
min_devices = {devices}
quorum = 1.0
deadline_s = 300.0
poll_ms = 100

[model]
public_data = {public_data}
seed = {seed}

[compile]
cache_dir = "cache"

[budget]
latency_ms = 4.5
memory_share = 0.488
model_share = 4e-4
local_epochs = 3
batch_sizes = [8, 16]
"""


def settings(rounds: int, seed: int, public_data: Path) -> str:
    """Give the text of the demo's coordinator.toml."""
    return SETTINGS.format(
        rounds=rounds,
        devices=len(BOARDS),
        seed=seed,
        public_data=json.dumps(str(public_data.resolve())),
    )
