"""The networks of the benchmark, by name: three geometries whose costs tell a board's rates apart.

Their graphs are compiled once and shipped with the client; see docs/decisions on the probe.
"""

from __future__ import annotations

from collections.abc import Mapping

from reefleet.model import ModelSpec

CLASSES = 10
DEPTHS = (2, 4)
VERSION = 2

# narrow: dispatch counts; slim: many tokens, little arithmetic each; wide: arithmetic counts.
PROBES: Mapping[str, ModelSpec] = {
    f"narrow-{VERSION}": ModelSpec(8, 2, 1, 64, 4, 4, CLASSES, DEPTHS),
    f"slim-{VERSION}": ModelSpec(32, 4, 3, 96, 3, 4, CLASSES, DEPTHS),
    f"wide-{VERSION}": ModelSpec(32, 4, 3, 192, 3, 4, CLASSES, DEPTHS),
}

# Answers that are timed: with int8 weights, and with float32 ones.
ANSWERS = ("answer", "float")

# Training steps that are timed: probe, depth, batch, models, bits. In order of what they tell.
STEPS: tuple[tuple[str, int, int, int, int], ...] = (
    (f"narrow-{VERSION}", 2, 4, 1, 8),
    (f"narrow-{VERSION}", 4, 16, 1, 8),
    (f"wide-{VERSION}", 2, 1, 1, 8),
    (f"wide-{VERSION}", 4, 8, 1, 8),
    (f"narrow-{VERSION}", 2, 4, 2, 8),
    (f"narrow-{VERSION}", 2, 4, 2, 2),
    (f"slim-{VERSION}", 2, 8, 1, 8),
    (f"narrow-{VERSION}", 2, 1, 1, 8),
    (f"narrow-{VERSION}", 4, 4, 1, 8),
    (f"narrow-{VERSION}", 2, 16, 1, 8),
    (f"wide-{VERSION}", 4, 1, 1, 8),
    (f"wide-{VERSION}", 2, 8, 1, 8),
    (f"narrow-{VERSION}", 4, 16, 2, 4),
    (f"wide-{VERSION}", 2, 4, 2, 4),
    (f"slim-{VERSION}", 4, 8, 1, 8),
)
