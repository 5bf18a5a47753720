"""Moments of the latents by class of the target, for latents that keep classes apart.

Where a record's features fix its class, as a picture fixes its digit, z is a mixture with a part for each class. Its
clusters are released as the moments of each part, and z is whitened by those of its own class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.sketch import Sketch, sketch


@dataclass(frozen=True)
class Strata:
    """Shares of the classes, (k,), adding up to 1; mean (k, d) and covariance (k, d, d) of z in each."""

    shares: Tensor
    mean: Tensor
    covariance: Tensor

    def factor(self) -> Tensor:
        """Lower Cholesky factors, (k, d, d)."""
        return torch.linalg.cholesky(self.covariance)

    def unwhiten(self, whitened: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(n, d) whitened points to latents, each of a class drawn by its share."""
        drawn = torch.multinomial(self.shares, len(whitened), replacement=True, generator=generator)
        return self.of_classes(whitened, drawn)

    def of_classes(self, whitened: Tensor, of: Tensor) -> Tensor:
        """(n, d) whitened points to latents of the classes `of`, (n,)."""
        latents = torch.empty_like(whitened)
        for index, factor in enumerate(self.factor()):
            latents[of == index] = self.mean[index] + whitened[of == index] @ factor.T
        return latents

    @classmethod
    def measure(cls, mean: Tensor, variance: Tensor, classes: Tensor) -> Strata:
        """Of Gaussian posteriors N(mean_i, diag variance_i), (n, d) each, in one-hot classes (n, k); none is empty."""
        means, covariances = [], []
        for member in classes.bool().T:
            inside = mean[member]
            means.append(inside.mean(0))
            spread = torch.cov(inside.T, correction=0).reshape(mean.shape[1], mean.shape[1])
            covariances.append(spread + torch.diag(variance[member].mean(0)))
        shares = classes.to(mean.dtype).mean(0)
        return cls(shares, torch.stack(means), torch.stack(covariances))

    def sketch(
        self, mean: Tensor, variance: Tensor, membership: Tensor, classes: Tensor, frequencies: Tensor
    ) -> Sketch:
        """The sketch of the posteriors, each whitened by its own class; the parts add up."""
        total: Sketch | None = None
        for index, (member, factor) in enumerate(zip(classes.bool().T, self.factor(), strict=True)):
            # t·w with w = L⁻¹(z - mean) is (L⁻ᵀ t)·(z - mean)
            raw = torch.linalg.solve_triangular(factor.T, frequencies.T, upper=True).T
            part = sketch(mean[member] - self.mean[index], membership[member], raw, variance[member])
            total = part if total is None else total + part
        assert total is not None
        return total
