"""What early exit costs and saves, on held-out images, both ways interleaved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_client.inference import Answer, EarlyExitModel
from reefleet.datasets.pack import Part, normalize
from reefleet.report import EarlyExitReport

WARM_UP = 5


def measure(model: EarlyExitModel, part: Part, check: Callable[[], None]) -> EarlyExitReport:
    """Answer each image with early exit and at full depth, taking turns at going first.

    Latencies are medians over the same images in the same minutes, so that a busy board or a
    warm one weighs on both alike.
    """
    image = np.empty((1, *part.images.shape[1:]), np.float32)
    pre = model.manifest.preprocessing
    normalize(part.images[:1], pre, image)
    for _ in range(WARM_UP):
        model.answer(image, full_depth=True)
    early: list[Answer] = []
    full: list[Answer] = []
    for index, pixels in enumerate(part.images):
        check()
        normalize(pixels[None], pre, image)
        order = (False, True) if index % 2 else (True, False)
        for full_depth in order:
            answers = full if full_depth else early
            answers.append(model.answer(image, full_depth=full_depth))
    depths = np.array([answer.exit_depth for answer in early])
    manifest = model.manifest
    return EarlyExitReport(
        accuracy=_accuracy(early, part.labels),
        full_depth_accuracy=_accuracy(full, part.labels),
        mean_exit_depth=float(depths.mean()),
        p50_ms=_median_ms(early),
        full_depth_p50_ms=_median_ms(full),
        packed_bytes=manifest.files[manifest.weights].size_bytes,
        thresholds=model.thresholds,
        exit_share=tuple(float((depths == depth).mean()) for depth in model.exit_depths),
    )


def _accuracy(answers: list[Answer], labels: NDArray[np.int64]) -> float:
    return float(np.mean([answer.class_index for answer in answers] == labels))


def _median_ms(answers: list[Answer]) -> float:
    return float(np.median([answer.milliseconds for answer in answers]))
