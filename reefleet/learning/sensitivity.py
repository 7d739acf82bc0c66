"""How much each quantized tensor's bits matter to the loss: the input of `reefleet.mixed`.

The loss that quantizing weights w to q adds is about 1/2 sum_i F_i (q_i - w_i)^2, F the diagonal of
the empirical Fisher matrix (as HAWQ and OBD have it): each weight's squared error, weighted by the
second moment of its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reefleet.errors import DataTooSmall
from reefleet.learning.distillation import cross_entropy
from reefleet.learning.objectives.objective import gradients_of
from reefleet.learning.ree import exit_logits
from reefleet.mixed import WIDTHS
from reefleet.model import ModelSpec, quantized_tensors
from reefleet.wire.codebook import assign, lloyd, snap

BATCH = 16


def measure_harm(
    spec: ModelSpec, depth: int, params: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> dict[str, tuple[float, ...]]:
    """Loss that each width of WIDTHS is expected to add, by quantized tensor.

    Codebooks are as a device would start them, on the int8 grid. Raises DataTooSmall without a
    sample.
    """
    if not len(labels):
        msg = "there is no sample to measure the sensitivity of the weights on"
        raise DataTooSmall(msg)
    moments = _second_moments(spec, depth, params, images, labels)
    harm = {}
    for name, moment in moments.items():
        values = params[name].numpy()
        errors = (_squared_error(values, bits) for bits in WIDTHS)
        harm[name] = tuple(float(0.5 * (moment * error).sum()) for error in errors)
    return harm


def _second_moments(
    spec: ModelSpec, depth: int, params: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> dict[str, NDArray[np.float64]]:
    names, count = quantized_tensors(spec, depth), len(labels)
    sums = {name: np.zeros(tuple(params[name].shape)) for name in names}
    coded = {name: params[name] for name in names}
    for start in range(0, count, BATCH):
        rows = slice(start, min(start + BATCH, count))
        mask = torch.ones(rows.stop - start)

        def loss_of(
            leaves: Mapping[str, Tensor], rows: slice = rows, mask: Tensor = mask
        ) -> tuple[Tensor, None]:
            logits = exit_logits({**params, **leaves}, spec, depth, images[rows])
            return cross_entropy(logits, labels[rows], mask).sum(), None

        gradients, _ = gradients_of(loss_of, coded)
        for name, gradient in gradients.items():
            # The square of a mean over B independent samples is a B-th of a sample's.
            sums[name] += len(mask) ** 2 * gradient.double().numpy() ** 2
    return {name: total / count for name, total in sums.items()}


def _squared_error(values: NDArray[np.float32], bits: int) -> NDArray[np.float64]:
    centers = snap(lloyd(values, bits)).centers
    error: NDArray[np.float64] = centers[assign(values, centers)].astype(np.float64) - values
    return error**2
