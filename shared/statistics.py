"""The latent statistics that cross: clipped moments of z by class and its sketch by group (DESIGN section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from safetensors.torch import save
from torch import Tensor

from shared.decoder import checked
from shared.errors import VerificationFailure
from shared.limits import LIMITS
from shared.sketch import Sketch, draw_frequencies
from shared.strata import Strata
from shared.tensor_metadata import metadata

FREQUENCIES = 768
FORMAT = "fair4free latent statistics 2"

LEAST_SKETCHED = 2 * FREQUENCIES
"""Over the dimensions d of z, the fewest records of a sketch: their posteriors, 2d numbers each, are then twice as many
unknowns as it has numbers."""

LOG_VARIANCE = (-12.0, 4.0)
"""Between these a teacher holds the log-variance of a posterior of z, and a student that of its own z."""

ROUNDED = 1.01
"""How far rounding may take moments beyond their bounds."""


@dataclass(frozen=True)
class LatentStatistics:
    """What is released about z in R^d.

    strata: the moments of z by class, which whiten it. frequencies: (m, d), for whitened z. real, imaginary: the
    characteristic function of whitened z in each group, (groups, m); small groups have that of all of them together.
    """

    strata: Strata
    frequencies: Tensor
    real: Tensor
    imaginary: Tensor

    @property
    def latent(self) -> int:
        """The dimensions d of z."""
        return self.frequencies.shape[1]

    def pooled(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Characteristic function over all groups, each part (m,). shares: (groups,)."""
        return shares @ self.real, shares @ self.imaginary

    def to_bytes(self) -> bytes:
        """safetensors; the metadata names the format."""
        moments = {f"class_{name}": value for name, value in vars(self.strata).items()}
        sketched = {"frequencies": self.frequencies, "real": self.real, "imaginary": self.imaginary}
        tensors = {name: value.detach().cpu().contiguous() for name, value in (moments | sketched).items()}
        return save(tensors, metadata={"format": FORMAT})

    @classmethod
    def from_bytes(cls, data: bytes, latent: int, groups: int, classes: int) -> Self:
        """Build from foreign bytes. Raises `VerificationFailure` naming what is wrong, never a value."""
        if metadata(data).get("format") != FORMAT:
            raise _refused("they are not in the format that this version reads")
        moments: dict[str, tuple[int, ...]] = {
            "class_shares": (classes,),
            "class_mean": (classes, latent),
            "class_covariance": (classes, latent, latent),
        }
        sketched: dict[str, tuple[int, ...]] = {
            "frequencies": (FREQUENCIES, latent),
            "real": (groups, FREQUENCIES),
            "imaginary": (groups, FREQUENCIES),
        }
        tensors = checked(data, moments | sketched)
        strata = Strata(*(tensors.pop(name) for name in moments))
        found = cls(strata, **tensors)
        if bool((strata.shares < 0.0).any()) or abs(float(strata.shares.sum()) - 1.0) > 1e-2:
            raise _refused("the shares of the classes do not add up to 1")
        if bool((found.frequencies.abs() > LIMITS.frequency).any()):
            raise _refused("a frequency is beyond the limit")
        if bool((found.real.square() + found.imaginary.square() > 1.0 + 1e-4).any()):
            raise _refused("a characteristic function is larger than 1")
        if bool((strata.mean.norm(dim=1) > ROUNDED * _radius(latent)).any()):
            raise _refused("a mean is farther out than clipped means are")
        variances = strata.covariance.diagonal(dim1=1, dim2=2)
        if bool((variances > ROUNDED * (_radius(latent) ** 2 + math.exp(LOG_VARIANCE[1]))).any()):
            raise _refused("a variance is larger than that of clipped means")
        try:
            raw = strata.raw(found.frequencies)
        except RuntimeError:  # torch raises its own subclass when there is no factor
            raise _refused("a covariance is not positive definite") from None
        if not bool(torch.isfinite(raw).all()):
            raise _refused("a covariance is too near one of fewer dimensions")
        return found


def measure(mean: Tensor, variance: Tensor, groups: Tensor, classes: Tensor, seed: int) -> LatentStatistics:
    """Statistics of Gaussian posteriors N(mean_i, diag variance_i).

    mean, variance: (n, d). groups, classes: one-hot, (n, groups) and (n, classes). Posterior means are clipped to 4√d
    from the origin, which bounds what one record adds. Every group must have a record. The numbers in a sketch of a few
    records could be solved for their posteriors, so groups are sketched together until they are `LEAST_SKETCHED` / d.
    """
    dimensions = mean.shape[1]
    radius = _radius(dimensions)
    mean = mean * (radius / mean.norm(dim=1, keepdim=True).clamp_min(radius))
    strata = Strata.measure(mean, variance, classes)
    frequencies = draw_frequencies(FREQUENCIES, dimensions, generator=torch.Generator().manual_seed(seed))
    parts = strata.sketch(mean, variance, groups, classes, frequencies)
    return LatentStatistics(strata, frequencies, *small_together(parts, LEAST_SKETCHED // dimensions))


def _radius(dimensions: int) -> float:
    """How far from the origin posterior means may be."""
    return 4.0 * dimensions**0.5


def small_together(parts: Sketch, least: int) -> tuple[Tensor, Tensor]:
    """Characteristic functions, each part (groups, m): groups of fewer than `least` records have that of all of those
    together, which the next smallest join until they are enough. Their mean over all records stays what it is."""
    sizes, order = parts.count.sort(stable=True)
    few = int((sizes < least).sum())
    while few and sizes[:few].sum() < least and few < len(sizes):
        few += 1
    real, imaginary = parts.characteristic_function()
    if few:
        small = order[:few]
        shares = parts.count[small] / parts.count[small].sum()
        real[small], imaginary[small] = shares @ real[small], shares @ imaginary[small]
    return real, imaginary


def _refused(problem: str) -> VerificationFailure:
    return VerificationFailure(problem, field="statistics", remedy="ask the owner for a new release")
