"""The latent statistics that cross: clipped moments of z and its sketch by group (DESIGN section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from safetensors.torch import save
from torch import Tensor

from shared.decoder import checked
from shared.errors import VerificationFailure
from shared.sketch import draw_frequencies, sketch

FREQUENCIES = 768


@dataclass(frozen=True)
class LatentStatistics:
    """What is released about z in R^d.

    mean: (d,). covariance: (d, d). frequencies: (m, d), for whitened z. real, imaginary: the characteristic
    function of whitened z in each group, (groups, m).
    """

    mean: Tensor
    covariance: Tensor
    frequencies: Tensor
    real: Tensor
    imaginary: Tensor

    def factor(self) -> Tensor:
        """Lower Cholesky factor L of the covariance, (d, d): z = mean + L w."""
        return torch.linalg.cholesky(self.covariance)

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """(n, d) whitened points to latents."""
        return self.mean + whitened @ self.factor().T

    def pooled(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Characteristic function over all groups, each part (m,). shares: (groups,)."""
        return shares @ self.real, shares @ self.imaginary

    def to_bytes(self) -> bytes:
        return save(
            {name: value.detach().cpu().contiguous() for name, value in vars(self).items()},
            metadata={"format": "fair4free latent statistics 1"},
        )

    @classmethod
    def from_bytes(cls, data: bytes, latent: int, groups: int) -> Self:
        """Build from foreign bytes. Raises `VerificationFailure` naming what is wrong, never a value."""
        found = cls(
            **checked(
                data,
                {
                    "mean": (latent,),
                    "covariance": (latent, latent),
                    "frequencies": (FREQUENCIES, latent),
                    "real": (groups, FREQUENCIES),
                    "imaginary": (groups, FREQUENCIES),
                },
            )
        )
        if bool((found.real.square() + found.imaginary.square() > 1.0 + 1e-4).any()):
            raise _refused("a characteristic function is larger than 1")
        try:
            found.factor()
        except RuntimeError:  # torch raises its own subclass when there is no factor
            raise _refused("the covariance is not positive definite") from None
        return found


def measure(mean: Tensor, variance: Tensor, membership: Tensor, seed: int) -> LatentStatistics:
    """Statistics of Gaussian posteriors N(mean_i, diag variance_i).

    mean, variance: (n, d). membership: one-hot groups (n, groups). Posterior means are clipped to 4√d from the
    origin, which bounds what one record adds. Every group must have a record.
    """
    dimensions = mean.shape[1]
    radius = 4.0 * dimensions**0.5
    mean = mean * (radius / mean.norm(dim=1, keepdim=True).clamp_min(radius))
    centre = mean.mean(0)
    covariance = torch.cov(mean.T, correction=0).reshape(dimensions, dimensions) + torch.diag(variance.mean(0))
    generator = torch.Generator().manual_seed(seed)
    frequencies = draw_frequencies(FREQUENCIES, dimensions, generator=generator)
    # t·w with w = L⁻¹(z - mean) is (L⁻ᵀ t)·(z - mean)
    raw = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance).T, frequencies.T, upper=True).T
    real, imaginary = sketch(mean - centre, membership, raw, variance).characteristic_function()
    return LatentStatistics(centre, covariance, frequencies, real, imaginary)


def _refused(problem: str) -> VerificationFailure:
    return VerificationFailure(problem, field="statistics", remedy="ask the owner for a new release")
