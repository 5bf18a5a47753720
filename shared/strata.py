"""Moments of the latents by class of the target.

Each class has a prior of its own, so z is a mixture with a part for each. Its clusters are released as the moments of
each part, and z is whitened by those of its own class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from shared.sketch import Sketch, sketch

LEAST = 10
"""Records that a class needs for moments of its own, which of fewer would be those of single people."""


@dataclass(frozen=True)
class Strata:
    """Shares of the classes, (k,), adding up to 1; mean (k, d) and covariance (k, d, d) of z in each."""

    shares: Tensor
    mean: Tensor
    covariance: Tensor

    def factor(self) -> Tensor:
        """Lower Cholesky factors, (k, d, d). Raises torch's `LinAlgError` where a covariance has none."""
        return torch.linalg.cholesky(self.covariance)

    def raw(self, frequencies: Tensor) -> Tensor:
        """Frequencies (m, d) for whitened points as those for points about the mean of each class, L⁻ᵀ t: (k, m, d)."""
        return torch.linalg.solve_triangular(self.factor().mT, frequencies.T, upper=True).mT

    def unwhiten(self, whitened: Tensor, generator: torch.Generator) -> Tensor:
        """(n, d) whitened points to latents, each of a class drawn by its share."""
        drawn = torch.multinomial(self.shares, len(whitened), replacement=True, generator=generator)
        latents = torch.empty_like(whitened)
        for index, factor in enumerate(self.factor()):
            latents[drawn == index] = self.mean[index] + whitened[drawn == index] @ factor.T
        return latents

    def pooled_covariance(self) -> Tensor:
        """Covariance of all classes together, (d, d)."""
        apart = self.mean - self.shares @ self.mean
        within = (self.shares[:, None, None] * self.covariance).sum(0)
        return within + apart.T @ (self.shares[:, None] * apart)

    def log_density(self, z: Tensor) -> Tensor:
        """log Σ_k π_k N(z; mean_k, covariance_k) at z (n, d): (n,)."""
        within = MultivariateNormal(self.mean, scale_tril=self.factor(), validate_args=False)
        parts: Tensor = within.log_prob(z.unsqueeze(1))  # type: ignore[no-untyped-call]
        return (self.shares.log() + parts).logsumexp(1)

    @classmethod
    def measure(cls, mean: Tensor, variance: Tensor, classes: Tensor) -> Strata:
        """Of Gaussian posteriors N(mean_i, diag variance_i), (n, d) each, in one-hot classes (n, k).

        A class of fewer than `LEAST` records has everyone's moments.
        """
        means, covariances = [], []
        for chosen in classes.bool().T:
            member = chosen if chosen.sum() >= LEAST else torch.ones_like(chosen)
            inside = mean[member]
            means.append(inside.mean(0))
            spread = torch.cov(inside.T, correction=0).reshape(mean.shape[1], mean.shape[1])
            covariances.append(spread + torch.diag(variance[member].mean(0)))
        shares = classes.to(mean.dtype).mean(0)
        return cls(shares, torch.stack(means), torch.stack(covariances))

    def sketch(
        self, mean: Tensor, variance: Tensor, membership: Tensor, classes: Tensor, frequencies: Tensor
    ) -> Sketch:
        """The sketch of posteriors N(mean_i, diag variance_i), (n, d) each, whitened by class; the parts add up.

        membership, classes: one-hot, (n, groups) and (n, k). frequencies: (m, d).
        """
        total: Sketch | None = None
        for member, centre, raw in zip(classes.bool().T, self.mean, self.raw(frequencies), strict=True):
            part = sketch(mean[member] - centre, membership[member], raw, variance[member])
            total = part if total is None else total + part
        assert total is not None
        return total
