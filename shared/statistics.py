"""The latent statistics that cross: clipped moments of z and its sketch by group (DESIGN section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from safetensors.torch import save
from torch import Tensor

from shared.decoder import checked, metadata
from shared.errors import VerificationFailure
from shared.sketch import draw_frequencies, sketch
from shared.strata import Strata

FREQUENCIES = 768
WHOLE, BY_CLASS = "fair4free latent statistics 1", "fair4free latent statistics by class 1"
"""What the metadata calls the two forms."""


@dataclass(frozen=True)
class LatentStatistics:
    """What is released about z in R^d.

    mean: (d,). covariance: (d, d). frequencies: (m, d), for whitened z. real, imaginary: the characteristic
    function of whitened z in each group, (groups, m). strata: the moments by class, where z is whitened by class.
    """

    mean: Tensor
    covariance: Tensor
    frequencies: Tensor
    real: Tensor
    imaginary: Tensor
    strata: Strata | None = None

    def factor(self) -> Tensor:
        """Lower Cholesky factor L of the covariance, (d, d): z = mean + L w."""
        return torch.linalg.cholesky(self.covariance)

    def unwhiten(self, whitened: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(n, d) whitened points to latents; `generator` draws their classes where there are strata."""
        if self.strata is not None:
            return self.strata.unwhiten(whitened, generator)
        return self.mean + whitened @ self.factor().T

    def pooled(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Characteristic function over all groups, each part (m,). shares: (groups,)."""
        return shares @ self.real, shares @ self.imaginary

    def to_bytes(self) -> bytes:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        if self.strata is not None:
            tensors |= {f"class_{name}": value for name, value in vars(self.strata).items()}
        return save(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            metadata={"format": WHOLE if self.strata is None else BY_CLASS},
        )

    @classmethod
    def from_bytes(cls, data: bytes, latent: int, groups: int, classes: int) -> Self:
        """Build from foreign bytes. Raises `VerificationFailure` naming what is wrong, never a value."""
        shapes: dict[str, tuple[int, ...]] = {
            "mean": (latent,),
            "covariance": (latent, latent),
            "frequencies": (FREQUENCIES, latent),
            "real": (groups, FREQUENCIES),
            "imaginary": (groups, FREQUENCIES),
        }
        by_class: dict[str, tuple[int, ...]] = {
            "class_shares": (classes,),
            "class_mean": (classes, latent),
            "class_covariance": (classes, latent, latent),
        }
        stratified = metadata(data).get("format") == BY_CLASS
        tensors = checked(data, shapes | by_class if stratified else shapes)
        strata = Strata(*(tensors.pop(name) for name in by_class)) if stratified else None
        found = cls(**tensors, strata=strata)
        if strata is not None and (bool((strata.shares < 0.0).any()) or abs(float(strata.shares.sum()) - 1.0) > 1e-2):
            raise _refused("the shares of the classes do not add up to 1")
        if bool((found.real.square() + found.imaginary.square() > 1.0 + 1e-4).any()):
            raise _refused("a characteristic function is larger than 1")
        try:
            found.factor()
            if strata is not None:
                strata.factor()
        except RuntimeError:  # torch raises its own subclass when there is no factor
            raise _refused("the covariance is not positive definite") from None
        return found


def measure(
    mean: Tensor, variance: Tensor, membership: Tensor, seed: int, classes: Tensor | None = None
) -> LatentStatistics:
    """Statistics of Gaussian posteriors N(mean_i, diag variance_i).

    mean, variance: (n, d). membership: one-hot groups (n, groups). Posterior means are clipped to 4√d from the
    origin, which bounds what one record adds. Every group must have a record. `classes`, one-hot (n, k), asks for
    statistics by class, each of which must have two.
    """
    dimensions = mean.shape[1]
    radius = 4.0 * dimensions**0.5
    mean = mean * (radius / mean.norm(dim=1, keepdim=True).clamp_min(radius))
    centre = mean.mean(0)
    covariance = torch.cov(mean.T, correction=0).reshape(dimensions, dimensions) + torch.diag(variance.mean(0))
    generator = torch.Generator().manual_seed(seed)
    frequencies = draw_frequencies(FREQUENCIES, dimensions, generator=generator)
    if classes is not None:
        strata = Strata.measure(mean, variance, classes)
        parts = strata.sketch(mean, variance, membership, classes, frequencies)
        return LatentStatistics(centre, covariance, frequencies, *parts.characteristic_function(), strata)
    # t·w with w = L⁻¹(z - mean) is (L⁻ᵀ t)·(z - mean)
    raw = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance).T, frequencies.T, upper=True).T
    real, imaginary = sketch(mean - centre, membership, raw, variance).characteristic_function()
    return LatentStatistics(centre, covariance, frequencies, real, imaginary)


def _refused(problem: str) -> VerificationFailure:
    return VerificationFailure(problem, field="statistics", remedy="ask the owner for a new release")
