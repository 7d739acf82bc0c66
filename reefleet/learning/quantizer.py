"""QuPeD's quantizer: soft and hard assignment to learned centers, proximal steps for both.

QuPeD (NeurIPS 2021) section 3. Weights x [N], sorted centers c [m], m = 2^b, boundaries halfway
between neighbours. Centers are found by bisection in b gathers, so no [m, N] tensor is made at any
bit-width, and the trace needs no sort or search operator on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def assign(values: Tensor, centers: Tensor) -> Tensor:
    """Index [N] of the nearest center of each value [N]; a value on a boundary takes the lower."""
    boundaries = (centers[1:] + centers[:-1]) / 2  # [m - 1]
    index = torch.zeros_like(values, dtype=torch.int64)
    step = centers.shape[0] // 2
    while step:
        middle = boundaries.gather(0, index + (step - 1))
        index = index + step * (values > middle).to(torch.int64)
        step //= 2
    return index


def soft_quantize(values: Tensor, centers: Tensor, steepness: Tensor) -> Tensor:
    """Qs(x): a sigmoid at each boundary, of slope `steepness` in units of the mean center gap.

    Only the two boundaries around a value are summed. The terms left out are below
    gap * sigmoid(-steepness), 5e-5 of a gap at the usual steepness of 10.
    """
    top = centers.shape[0] - 1
    index = assign(values.detach(), centers.detach())
    here = centers.gather(0, index)
    above = centers.gather(0, (index + 1).clamp(max=top))
    below = centers.gather(0, (index - 1).clamp(min=0))
    gap = ((centers[top] - centers[0]) / top).detach().clamp(min=1e-8)
    rate = steepness / gap
    rise = (above - here) * torch.sigmoid(rate * (values - (above + here) / 2))
    fall = (here - below) * torch.sigmoid(rate * ((below + here) / 2 - values))
    return here + rise - fall


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
    their mean at any size of tensor. The published l1 code moves centers away from their members.
    """
    share = pull * (centers.shape[0] / values.shape[0])
    zeros = torch.zeros_like(centers)
    members = zeros.scatter_add(0, index, torch.ones_like(values))
    total = zeros.scatter_add(0, index, values)
    moved = (centers + 2 * share * total) / (1 + 2 * share * members)
    return moved.sort(0).values
