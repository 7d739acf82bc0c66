"""Codebooks of a personal model in training: their state, what the network sees, how they move.

State `centers/NAME` [m] of each quantized weight; with a codebook by channel also `scales/NAME`
[out], and centers that hold for the weights over their row's scale. Quantizers: QuPeD's relaxation,
and as rivals LSQ's learned step and PARQ's map, which see the quantized loss alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reefleet.learning.objectives.objective import GRADIENT_CLIP, Scalars, Settings, State
from reefleet.learning.quantizer import (
    assign,
    evenly_spaced,
    learned_step,
    piecewise_affine,
    proximal_centers,
    proximal_centers_l1,
    proximal_weights,
    published_centers_l1,
    soft_quantize,
    straight_through,
)
from reefleet.learning.vit import Params
from reefleet.model import ModelSpec, quantized_tensors, tensor_shapes
from reefleet.wire.manifest import Scalar, StateTensor

BITS_FLOAT = 0  # no codebook
CENTERS, SCALES, PERSONAL = "centers/", "scales/", "personal/"
FROZEN = 0.5  # `freeze` is 0 or 1
LEAST_SHRINK = 0.5  # of a row's scale in one step, which must stay positive
LLOYD_PULL = 1e3  # so strong that a center moves to the mean of its members

Widths = int | Mapping[str, int]  # of all quantized tensors, or of each
Books = Mapping[str, Tensor]

_CENTER_RULES = {
    "l2": proximal_centers,
    "l1": proximal_centers_l1,
    "published": published_centers_l1,
}


def book_state(
    spec: ModelSpec, depth: int, bits: Widths, settings: Settings
) -> tuple[StateTensor, ...]:
    """Centers fitted to the first weights by Lloyd's algorithm, and scales by row where asked."""
    if bits == BITS_FLOAT:
        return ()
    shapes, found = tensor_shapes(spec, depth), []
    for name in quantized_tensors(spec, depth):
        width = bits if isinstance(bits, int) else bits[name]
        found.append(StateTensor(CENTERS + name, "centers", (1 << width,), "lloyd", name))
        if settings.codebook == "channel":
            found.append(StateTensor(SCALES + name, "centers", shapes[name][:1], "rows", name))
    return tuple(found)


def book_scalars(settings: Settings) -> tuple[Scalar, ...]:
    """Schedules of the quantizer that the settings name."""
    rate = Scalar("center_rate", "constant", settings.center_rate)
    of_rows = (rate,) if settings.codebook == "channel" else ()
    if settings.quantizer == "lsq":
        return of_rows
    if settings.quantizer == "parq":
        # Over the rounds from no quantizer to a hard one, which the last stage keeps.
        hard = {"relax": 1.0, "finetune": 1.0}
        return (Scalar("flatness", "linear", 0.0, 1.0, phases=hard), *of_rows)
    full = {"relax": settings.proximal}
    return (
        Scalar("proximal", "linear", 0.0, settings.proximal, phases=full),
        rate,
        Scalar("center_pull", "constant", settings.center_pull),
        Scalar("steepness", "constant", settings.steepness),
    )


def books_of(state: State) -> dict[str, Tensor]:
    """Entries of the state that are codebooks, by their full names."""
    return {name: value for name, value in state.items() if name.startswith((CENTERS, SCALES))}


def coded(params: Params, books: Books, scalars: Scalars, settings: Settings) -> dict[str, Tensor]:
    """The parameters as the quantized network sees them."""
    seen = dict(params)
    for name, centers in _centers(books):
        scale = _row_scale(books, name)
        inner = (params[name] / scale).reshape(-1)
        flat = _relaxed(inner, centers, scalars, settings)
        if settings.finetune == "weights" or settings.quantizer != "quped":
            hard = straight_through(inner, centers)
            flat = torch.where(scalars["freeze"] > FROZEN, hard, flat)
        seen[name] = flat.reshape(params[name].shape) * scale
    return seen


def moved_books(
    before: Params,
    moved: Params,
    books: Books,
    gradients: Books,
    scalars: Scalars,
    settings: Settings,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Quantized weights after their proximal step, and the codebooks after theirs.

    `before` and `moved` hold the weights before and after their gradient step. Frozen codebooks
    stay, and with them the weights where only the rest is fine-tuned.
    """
    frozen = scalars["freeze"] > FROZEN
    weights, new = {}, {}
    for name, centers in _centers(books):
        scale, key = _row_scale(books, name), CENTERS + name
        inner = (moved[name] / scale).reshape(-1)
        slope = _normalised(gradients[key], inner.numel())
        drawn, after = _moved(inner, centers, slope, scale, scalars, settings)
        kept = before[name] if settings.finetune == "rest" else moved[name]
        weights[name] = torch.where(frozen, kept, drawn.reshape(kept.shape) * scale)
        new[key] = torch.where(frozen, centers, after)
        if (rows := books.get(SCALES + name)) is not None:
            fall = _normalised(gradients[SCALES + name], inner.numel() // rows.shape[0])
            grown = torch.maximum(rows - scalars["center_rate"] * fall, rows * LEAST_SHRINK)
            new[SCALES + name] = torch.where(frozen, rows, grown)
    return weights, new


def _relaxed(values: Tensor, centers: Tensor, scalars: Scalars, settings: Settings) -> Tensor:
    if settings.quantizer == "lsq":
        return learned_step(values, evenly_spaced(centers))
    if settings.quantizer == "parq":
        return piecewise_affine(values, centers, scalars["flatness"])
    return soft_quantize(values, centers, scalars["steepness"])


def _moved(
    values: Tensor,
    centers: Tensor,
    slope: Tensor,
    scale: Tensor | float,
    scalars: Scalars,
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    if settings.quantizer == "lsq":
        # The step moves at the weights' rate by its gradient / sqrt(N top / 2), as published.
        top = centers.shape[0] - 1
        follow = scalars["personal_rate"] * (top**1.5 / 2**0.5)
        return values, evenly_spaced(centers - follow * slope)
    if settings.quantizer == "parq":
        index = assign(values, centers)
        return values, proximal_centers(centers, values, index, torch.full((), LLOYD_PULL))
    threshold = scalars["personal_rate"] * scalars["proximal"]
    if isinstance(scale, Tensor):
        columns = values.shape[0] // scale.shape[0]
        threshold = (threshold / scale).expand(-1, columns).reshape(-1)
    drawn, index = proximal_weights(values, centers, threshold)
    # Gaps narrow with the number of centers, and so must steps.
    shifted = centers - scalars["center_rate"] * slope / (centers.shape[0] - 1)
    rule = _CENTER_RULES[settings.center_rule]
    return drawn, rule(shifted, drawn, index, scalars["center_pull"])


def _centers(books: Books) -> list[tuple[str, Tensor]]:
    return [(n[len(CENTERS) :], value) for n, value in books.items() if n.startswith(CENTERS)]


def _row_scale(books: Books, name: str) -> Tensor | float:
    rows = books.get(SCALES + name)
    return 1.0 if rows is None else rows.clamp(min=1e-8)[:, None]  # [out, 1]


def _normalised(gradient: Tensor, members: int) -> Tensor:
    # A center's gradient sums over its members; LSQ's 1/sqrt(N) keeps its step size-free.
    scaled: Tensor = gradient * (members**-0.5)
    return scaled.clamp(-GRADIENT_CLIP, GRADIENT_CLIP)
