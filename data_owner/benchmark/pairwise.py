"""V²(z, s) in its pairwise closed forms: the paper's equation 1, quadratic in the batch.

Posteriors N(μ_i, diag v_i); with Lebesgue weight the kernel of two posteriors is the density of one difference,
k_ij = N(μ_i - μ_j; 0, diag(v_i + v_j)), up to the factor (2π)^d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kernel(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """k for every pair, (n, m), from posteriors (n, d) and (m, d)."""
    total = variance.unsqueeze(1) + other_variance
    squared = (mean.unsqueeze(1) - other_mean).square() / total
    return torch.exp(-0.5 * (squared + torch.log(2 * math.pi * total)).sum(2))


def dependence_by_blocks(mean: Tensor, variance: Tensor, group: Tensor, groups: int) -> Tensor:
    """As the reference implementation of FairDisco computes it (Liu et al., KDD 2022): means of three kernel blocks
    for each group: of everyone with everyone, of the group with itself, of the group with everyone.

    mean, variance: (n, d). group: positions, (n,). Scalar.
    """
    everyone = _mean_kernel(mean, variance, mean, variance)
    found = mean.new_zeros(())
    for index in range(groups):
        inside = group == index
        count = int(inside.sum())
        if 0 < count < len(group):
            own = _mean_kernel(mean[inside], variance[inside], mean[inside], variance[inside])
            cross = _mean_kernel(mean[inside], variance[inside], mean, variance)
            found = found + (count / len(group)) ** 2 * (everyone + own - 2 * cross)
    return found


def dependence_by_kernel(mean: Tensor, variance: Tensor, membership: Tensor) -> Tensor:
    """The same value from one kernel. mean, variance: (n, d). membership: one-hot, (n, groups). Scalar."""
    return quadratic_form(kernel(mean, variance, mean, variance), membership)


def quadratic_form(gram: Tensor, membership: Tensor) -> Tensor:
    """Σ_c w_c' K w_c with w_ic = (1[i in c] - n_c/n) / n, for a kernel matrix K (n, n)."""
    weights = (membership - membership.mean(0)) / len(membership)
    return (weights * (gram @ weights)).sum()


def _mean_kernel(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """The mean of one block, in the reference's order of operations: exponential over root of a product."""
    total = variance.unsqueeze(1) + other_variance
    exponent = ((mean.unsqueeze(1) - other_mean).square() / total).sum(2)
    return (torch.exp(-0.5 * exponent) / torch.sqrt((2 * math.pi * total).prod(2))).mean()
