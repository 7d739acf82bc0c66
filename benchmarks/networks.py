"""The network whose rounds the benchmarks measure."""

from __future__ import annotations

from reefleet.model import ModelSpec

# The shapes of DeiT-Ti and, beyond them, our shared exit: 5,827,139 weights in 178 tensors.
DEIT_TI = ModelSpec(
    image_size=224,
    patch_size=16,
    channels=3,
    width=192,
    heads=3,
    depth=12,
    classes=1000,
    exits=(12,),
    ree_heads=2,
    ree_width=8,
)
