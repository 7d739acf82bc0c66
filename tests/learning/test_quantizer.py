"""QuPeD's quantizer and proximal steps against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

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


def some_weights(count: int = 400, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) * 0.3


def some_centers(bits: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2**bits, generator=generator) * 0.3).sort().values


@given(bits=st.integers(1, 8), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_the_assignment_is_the_nearest_center(bits: int, seed: int) -> None:
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


@given(seed=st.integers(0, 200), bits=st.integers(1, 3), pull=st.floats(0.0, 3.0))
@settings(deadline=None, max_examples=30)
def test_the_l1_center_prox_is_exact(seed: int, bits: int, pull: float) -> None:
    weights, centers = some_weights(40, seed).double(), some_centers(bits, seed).double()
    index, share = assign(weights, centers), pull * 2**bits / 40
    moved = proximal_centers_l1(centers, weights, index, torch.tensor(pull, dtype=torch.float64))
    for j, found in enumerate(moved):
        # Each center's part is convex, with kinks at its members: brute force over a fine grid.
        tried = torch.cat([torch.linspace(-2, 2, 4001, dtype=torch.float64), weights])
        own = weights[index == j]
        cost = 0.5 * (tried - centers[j]) ** 2
        cost = cost + share * (tried[:, None] - own).abs().sum(1)
        reached = 0.5 * (found - centers[j]) ** 2 + share * (found - own).abs().sum()
        assert float(reached) <= float(cost.min()) + 1e-9


def test_the_l1_center_prox_is_the_median_of_members_and_ladder() -> None:
    members, start, pull = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([-1.0, 0.2]), 0.3
    share = pull * 2 / 3
    ladder = 0.2 + share * (3 - 2 * torch.arange(4.0))
    expected = torch.cat([members, ladder]).median()
    index = torch.tensor([1, 1, 1])
    moved = proximal_centers_l1(start, members, index, torch.tensor(pull))
    torch.testing.assert_close(moved[1], expected)
    assert moved[0] == -1.0  # no member: stays


def test_the_published_rule_moves_centers_away_and_the_exact_one_does_not() -> None:
    weights = some_weights(400)
    start = torch.tensor([-0.5, -0.3, 0.3, 0.5])
    index, pull = assign(weights, start), torch.tensor(0.2)

    def distance(c: Tensor) -> float:
        return float((weights - c[index]).abs().mean())

    assert distance(published_centers_l1(start, weights, index, pull)) > distance(start)
    assert distance(proximal_centers_l1(start, weights, index, pull)) < distance(start)


def test_straight_through_is_the_quantizer_with_the_gradient_of_the_weights() -> None:
    weights, centers = some_weights().requires_grad_(), some_centers(3)
    found = straight_through(weights, centers)
    assert torch.equal(found, centers[assign(weights.detach(), centers)])
    (gradient,) = torch.autograd.grad(found.sum(), weights)
    assert torch.equal(gradient, torch.ones_like(weights))


def test_the_learned_step_has_the_gradient_of_lsq() -> None:
    weights = torch.tensor([-2.0, -0.3, 0.1, 0.4, 2.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    found = learned_step(weights, step * torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    torch.testing.assert_close(found, torch.tensor([-0.75, -0.25, 0.25, 0.25, 0.75]))
    of_weights, of_step = torch.autograd.grad(found.sum(), (weights, step))
    torch.testing.assert_close(of_weights, torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]))
    # Level less x / s where x is within reach, the outer level where it is not.
    inside = (-0.5 + 0.6) + (0.5 - 0.2) + (0.5 - 0.8)
    torch.testing.assert_close(of_step, torch.tensor(-1.5 + inside + 1.5))


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_parqs_map_runs_from_the_identity_to_the_quantizer(bits: int) -> None:
    weights, centers = some_weights(), some_centers(bits)
    loose, half, hard = (
        piecewise_affine(weights, centers, torch.tensor(flatness)) for flatness in (0.0, 0.5, 1.0)
    )
    quantized = centers[assign(weights, centers)]
    torch.testing.assert_close(loose, weights)
    torch.testing.assert_close(hard, quantized)
    between = torch.minimum(weights, quantized) - 1e-6, torch.maximum(weights, quantized) + 1e-6
    assert bool(((half >= between[0]) & (half <= between[1])).all())
    order = weights.argsort()
    assert bool((half[order].diff() >= -1e-6).all())


def test_evenly_spaced_centers_keep_their_mean_gap() -> None:
    spaced = evenly_spaced(torch.tensor([-0.9, -0.1, 0.2, 0.6]))
    torch.testing.assert_close(spaced, torch.tensor([-0.75, -0.25, 0.25, 0.75]))
