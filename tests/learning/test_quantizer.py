"""QuPeD's quantizer and proximal steps against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reefleet.learning.quantizer import (
    assign,
    proximal_centers,
    proximal_weights,
    soft_quantize,
)


def some_weights(count: int = 400, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) * 0.3


def some_centers(bits: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2**bits, generator=generator) * 0.3).sort().values


@given(bits=st.integers(1, 8), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_bisection_finds_the_nearest_center(bits: int, seed: int) -> None:
    weights, centers = some_weights(seed=seed), some_centers(bits, seed)
    chosen = (weights - centers[assign(weights, centers)]).abs()
    best = (weights[:, None] - centers).abs().min(1).values
    torch.testing.assert_close(chosen, best)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_soft_quantizer_tends_to_the_hard_one(bits: int) -> None:
    weights = some_weights()
    centers = torch.linspace(-0.6, 0.6, 2**bits)
    hard = centers[assign(weights, centers)]
    soft = soft_quantize(weights, centers, torch.tensor(1000.0))
    away = (weights[:, None] - (centers[1:] + centers[:-1]) / 2).abs().min(1).values
    clear = away > 0.02 * (centers[1] - centers[0])
    torch.testing.assert_close(soft[clear], hard[clear], rtol=0, atol=1e-5)


def test_soft_quantizer_is_the_sum_of_sigmoids_of_the_paper() -> None:
    weights, steepness = some_weights(), 10.0
    centers = torch.linspace(-0.6, 0.6, 4)
    gap = centers[1:] - centers[:-1]
    middle = (centers[1:] + centers[:-1]) / 2
    rate = steepness / gap.mean()
    whole = centers[0] + (gap * torch.sigmoid(rate * (weights[:, None] - middle))).sum(1)
    found = soft_quantize(weights, centers, torch.tensor(steepness))
    torch.testing.assert_close(found, whole, rtol=0, atol=float(gap[0]) * 1e-4)


def test_weight_prox_minimises_its_objective() -> None:
    weights, centers, threshold = some_weights(60), some_centers(2), torch.tensor(0.05)
    moved, _ = proximal_weights(weights, centers, threshold)
    grid = torch.linspace(-1.5, 1.5, 30_001)

    def objective(x: Tensor, weight: Tensor) -> Tensor:
        distance = (x[:, None] - centers).abs().min(1).values
        return 0.5 * (x - weight) ** 2 + threshold * distance

    for weight, result in zip(weights, moved, strict=True):
        least = objective(grid, weight).min()
        assert objective(result[None], weight)[0] <= least + 1e-6


def test_weight_prox_moves_no_weight_to_another_center() -> None:
    weights, centers = some_weights(), some_centers(3)
    moved, index = proximal_weights(weights, centers, torch.tensor(0.1))
    assert torch.equal(index, assign(weights, centers))
    assert (moved - weights).abs().max() <= 0.1 + 1e-7


def test_center_prox_minimises_its_objective() -> None:
    weights, centers = some_weights(), some_centers(2)
    index, pull = assign(weights, centers), torch.tensor(0.3)
    moved = proximal_centers(centers, weights, index, pull)
    share = pull * 4 / len(weights)

    def objective(c: Tensor) -> Tensor:
        return 0.5 * ((c - centers) ** 2).sum() + share * ((weights - c[index]) ** 2).sum()

    for axis in range(4):
        for step in (-1e-3, 1e-3):
            nudged = moved.clone()
            nudged[axis] += step
            assert objective(moved) < objective(nudged)


def test_center_prox_draws_centers_towards_their_members() -> None:
    weights = torch.tensor([0.9, 1.0, 1.1])
    moved = proximal_centers(
        torch.tensor([-1.0, 0.5]), weights, torch.tensor([1, 1, 1]), torch.tensor(1.0)
    )
    assert 0.5 < moved[1] < 1.0
    assert moved[0] == -1.0  # no member: stays
