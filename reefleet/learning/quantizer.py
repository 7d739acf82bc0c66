"""Quantizers on learned centers: assignment, what training sees of it, proximal steps.

QuPeD (NeurIPS 2021) section 3. Weights x [N], sorted centers c [m], m = 2^b, boundaries halfway
between neighbours. Nothing here makes an [m, N] tensor; what a board runs needs no search operator.
"""

from __future__ import annotations

import torch
from torch import Tensor

COMPARED = 16  # centers up to which comparing with each boundary beats a bisection by gathers


def assign(values: Tensor, centers: Tensor) -> Tensor:
    """Index [N] of the nearest center of each value [N]; a value on a boundary takes the lower."""
    boundaries = (centers[1:] + centers[:-1]) / 2  # [m - 1]
    if centers.shape[0] > COMPARED:
        return _bisected(values, boundaries)
    passed = (values > boundaries[0]).to(values.dtype)
    for position in range(1, boundaries.shape[0]):
        passed.add_((values > boundaries[position]).to(values.dtype))  # new memory costs as much
    return passed.to(torch.int64)


def soft_quantize(values: Tensor, centers: Tensor, steepness: Tensor) -> Tensor:
    """Qs(x): a sigmoid at each boundary, of slope `steepness` in units of the mean center gap.

    Only the two boundaries around a value are summed. The terms left out are below
    gap * sigmoid(-steepness), 5e-5 of a gap at a steepness of 10. At few bits the gap is as wide as
    the weights spread, and a softer step is far from the one that is deployed.
    """
    index = assign(values.detach(), centers.detach())
    here, above, below = _around(centers, index)
    rate = steepness / _gap(centers).detach().clamp(min=1e-8)
    rise = (above - here) * torch.sigmoid(rate * (values - (above + here) / 2))
    fall = (here - below) * torch.sigmoid(rate * ((below + here) / 2 - values))
    return here + rise - fall


def straight_through(values: Tensor, centers: Tensor) -> Tensor:
    """Q(x), with the gradient of x in place of its own (Bengio et al. 2013)."""
    held = centers.detach()
    return held.gather(0, assign(values.detach(), held)) + (values - values.detach())


def learned_step(values: Tensor, centers: Tensor) -> Tensor:
    """LSQ (Esser et al. 2020): evenly spaced centers around zero, their step s learned.

    Q = s q(clamp(x / s)), the gradient of q taken as 1. The step is read from the outer centers.
    """
    top = centers.shape[0] - 1
    step = _gap(centers)
    scaled = (values / step.clamp(min=1e-8)).clamp(-top / 2, top / 2)
    level = assign(values.detach(), centers.detach()).to(values.dtype) - top / 2
    return step * (level + (scaled - scaled.detach()))


def piecewise_affine(values: Tensor, centers: Tensor, flatness: Tensor) -> Tensor:
    """PARQ's proximal map (Jin et al. 2025) with a straight-through gradient.

    Flat at each center, of slope 1 / (1 - flatness) around each boundary: the identity at 0, Q at
    1. Values beyond the outer centers are drawn in by `flatness`.
    """
    x, held = values.detach(), centers.detach()
    index = assign(x, held)
    here, above, below = _around(held, index)
    middle = torch.where(x > here, (here + above) / 2, (here + below) / 2)
    steep = middle + (x - middle) / (1 - flatness).clamp(min=1e-6)
    inner = torch.where(x > here, torch.maximum(steep, here), torch.minimum(steep, here))
    drawn = here + (1 - flatness) * (x - here)
    mapped = torch.where(x > held[-1], drawn, torch.where(held[0] > x, drawn, inner))
    return mapped + (values - x)


def proximal_weights(values: Tensor, centers: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Exact prox of threshold * ||x - Q(x)||_1: each weight moves to its center by at most that.

    Gives the moved weights [N] and their assignment [N], which the move does not change.
    """
    index = assign(values, centers)
    distance = values - centers.gather(0, index)
    return values - torch.minimum(torch.maximum(distance, -threshold), threshold), index


def proximal_centers(centers: Tensor, values: Tensor, index: Tensor, pull: Tensor) -> Tensor:
    """Closed-form prox of pull * mean_i (x_i - c_index(i))^2 over the centers, sorted again.

    Center j becomes (c_j + 2 p sum of its members) / (1 + 2 p members), p = pull * m / N, so that
    a center with an average share of the members moves by 2 pull / (1 + 2 pull) of the way to
    their mean at any size of tensor.
    """
    share = pull * (centers.shape[0] / values.shape[0])
    members, total = _members(centers, values, index)
    moved = (centers + 2 * share * total) / (1 + 2 * share * members)
    return moved.sort(0).values


def proximal_centers_l1(centers: Tensor, values: Tensor, index: Tensor, pull: Tensor) -> Tensor:
    """Exact prox of pull * mean_i |x_i - c_index(i)| over the centers, sorted again.

    With n members in rising order x_(k) and p = pull * m / N, center j becomes the median of them
    and of c_j + p (n - 2 k), k = 0..n, which is the least of c_j + p n and of all
    max(x_(k), c_j + p (n - 2 k)). Not for boards: it sorts the weights.
    """
    share = pull * (centers.shape[0] / values.shape[0])
    members = torch.zeros_like(centers).scatter_add(0, index, torch.ones_like(values))
    order = values.argsort()
    owner = index[order]  # rising, as the centers are
    first = members.cumsum(0) - members
    rank = torch.arange(1, values.shape[0] + 1, dtype=values.dtype) - first[owner]
    offered = centers[owner] + share * (members[owner] - 2 * rank)
    found = torch.maximum(values[order], offered)
    moved = (centers + share * members).scatter_reduce(0, owner, found, "amin")
    return moved.sort(0).values


def published_centers_l1(centers: Tensor, values: Tensor, index: Tensor, pull: Tensor) -> Tensor:
    """What QuPeD's released code does for l1: one subgradient step of the wrong sign.

    It moves centers away from their members; kept for comparison alone.
    """
    share = pull * (centers.shape[0] / values.shape[0])
    side = (values - centers.gather(0, index)).sign()
    balance = torch.zeros_like(centers).scatter_add(0, index, side)  # above less below
    return (centers - share * balance).sort(0).values


def evenly_spaced(centers: Tensor) -> Tensor:
    """Centers around zero with the mean gap of these, as LSQ has them."""
    top = centers.shape[0] - 1
    return _gap(centers) * (torch.arange(top + 1, dtype=centers.dtype) - top / 2)


def _bisected(values: Tensor, boundaries: Tensor) -> Tensor:
    index = torch.zeros_like(values, dtype=torch.int64)
    step = (boundaries.shape[0] + 1) // 2
    while step:
        middle = boundaries.gather(0, index + (step - 1))
        index = index + step * (values > middle).to(torch.int64)
        step //= 2
    return index


def _gap(centers: Tensor) -> Tensor:
    top = centers.shape[0] - 1
    return (centers[top] - centers[0]) / top


def _around(centers: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    top = centers.shape[0] - 1
    above = centers.gather(0, (index + 1).clamp(max=top))
    return centers.gather(0, index), above, centers.gather(0, (index - 1).clamp(min=0))


def _members(centers: Tensor, values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    zeros = torch.zeros_like(centers)
    return zeros.scatter_add(0, index, torch.ones_like(values)), zeros.scatter_add(0, index, values)
