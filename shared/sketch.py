"""The characteristic-function sketch (DESIGN section 3).

For points z_i in R^d, groups c and frequencies t_1..t_m the sketch keeps, per group, the count n_c and the sums

    S_c = Σ_{i in c} exp(i t_j·z_i),     j = 1..m        (held as cosine and sine sums)
    E_c = Σ_{i in c} |E exp(i t_j·z_i)|²                  (n_c itself when every z_i is a point)

It is linear (sketches of two parts of a population add up), a point moves S_c by exactly √m in L2, a posterior
by less, and for a Gaussian posterior N(μ, diag v) the expectation over z only multiplies by exp(-½ Σ t²v).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Sketch:
    """`cosine`, `sine`, `energy`: sums of shape (groups, m). `count`: shape (groups,)."""

    cosine: Tensor
    sine: Tensor
    energy: Tensor
    count: Tensor

    def __add__(self, other: Self) -> Sketch:
        return Sketch(
            self.cosine + other.cosine,
            self.sine + other.sine,
            self.energy + other.energy,
            self.count + other.count,
        )

    def characteristic_function(self) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of φ_c(t) = S_c / n_c, each (groups, m). An empty group gives zeros."""
        count = self.count.clamp_min(1.0).unsqueeze(1)
        return self.cosine / count, self.sine / count


@dataclass(frozen=True)
class Band:
    """Frequencies that look at `coordinates` coordinates of z, drawn at random, with N(0, scale²) on each."""

    coordinates: int
    scale: float


BANDS = (Band(16, 0.3), Band(4, 0.8), Band(3, 1.0), Band(2, 1.0), Band(2, 1.5), Band(1, 1.5))
"""The weight w, per coordinate of standardised z: an equal mixture.

Few coordinates at a time, or the many on which z is plain noise would damp every frequency high enough to see the
clusters that categories make.
"""


def draw_frequencies(
    count: int,
    dimensions: int,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Frequencies of shape (count, dimensions) from the equal mixture of `BANDS`, whose kernel is `kernel`."""
    of = torch.arange(count, device=device) % len(BANDS)
    scales = torch.tensor([band.scale for band in BANDS], device=device)[of].unsqueeze(1)
    coordinates = torch.tensor([band.coordinates for band in BANDS], device=device)[of].unsqueeze(1)
    place = torch.rand(count, dimensions, generator=generator, device=device).argsort(1).argsort(1)
    return (place < coordinates) * scales * torch.randn(count, dimensions, generator=generator, device=device)


def kernel(difference: Tensor, variance: Tensor) -> Tensor:
    """E_w E cos(t·δ) for the weight of `draw_frequencies` and δ ~ N(difference, diag variance), each (..., d).

    A band that looks at k of d coordinates averages Π E exp(-½ scale² δ_j²) over all k of them: an elementary
    symmetric polynomial over its number of terms.
    """
    found = []
    for band in BANDS:
        count = min(band.coordinates, difference.shape[-1])
        sums = [torch.ones_like(difference[..., 0])] + [torch.zeros_like(difference[..., 0]) for _ in range(count)]
        widening = 1.0 + band.scale**2 * variance
        factors = torch.exp(-0.5 * band.scale**2 * difference.square() / widening) / widening.sqrt()
        for factor in factors.unbind(-1):
            for size in range(count, 0, -1):
                sums[size] = sums[size] + factor * sums[size - 1]
        found.append(sums[count] / math.comb(difference.shape[-1], count))
    return torch.stack(found).mean(0)


def sketch(mean: Tensor, membership: Tensor, frequencies: Tensor, variance: Tensor | None = None) -> Sketch:
    """Sketch of points, or of Gaussian posteriors when `variance` is given.

    mean, variance: (n, d). membership: one-hot groups, (n, groups). frequencies: (m, d). Cost O(n·m·d).
    """
    phase = mean @ frequencies.T
    cosine, sine = torch.cos(phase), torch.sin(phase)
    if variance is None:
        energy = torch.ones_like(phase)
    else:
        damping = torch.exp(-0.5 * (variance @ frequencies.square().T))
        cosine, sine, energy = cosine * damping, sine * damping, damping.square()
    by_group = membership.to(mean.dtype).T
    return Sketch(by_group @ cosine, by_group @ sine, by_group @ energy, by_group.sum(1))


def plug_in_dependence(parts: Sketch) -> Tensor:
    """V²(z, s) with the batch itself as the population: E_t Σ_c |S_c/n - (n_c/n) S/n|². Scalar.

    Its expectation over frequencies is the pairwise closed form on the same batch (Fair4Free equation 1 with
    weight w), which counts each record against itself and so is above zero on average even where z and s
    are independent.
    """
    return _squared_differences(parts).sum(0).mean()


def dependence(parts: Sketch) -> Tensor:
    """Unbiased estimate of the population's V²(z, s) for given counts, of two records or more in every group that has
    any. Scalar; may be negative.

    The plug-in form minus, for each record, what it contributes against itself, which is its energy less the
    unbiased estimate of |φ_c(t)|² of its own group.
    """
    total = parts.count.sum().clamp_min(1.0)
    share = parts.count / total
    weight = (1.0 - 2.0 * share + share.square().sum()) / total.square()
    others = (parts.count - 1.0).clamp_min(1.0).unsqueeze(1)
    modulus = parts.cosine.square() + parts.sine.square()
    own = parts.energy - (modulus - parts.energy) / others
    return (_squared_differences(parts).sum(0) - (weight.unsqueeze(1) * own).sum(0)).mean()


def conditional_dependence(parts: Sketch, classes: int) -> Tensor:
    """Unbiased estimate of Σ_y π_y V²(z, s | y), scalar. The groups of `parts` are cells (y, s), class by class."""
    total = parts.count.sum()
    found = parts.cosine.new_zeros(())
    for cell in torch.arange(len(parts.count), device=parts.count.device).chunk(classes):
        within = Sketch(parts.cosine[cell], parts.sine[cell], parts.energy[cell], parts.count[cell])
        found = found + within.count.sum() / total * dependence(within)
    return found


Characteristic = tuple[Tensor, Tensor]
"""Real and imaginary part of φ(t), (m,) each."""


def characteristic_function(mean: Tensor, variance: Tensor, frequencies: Tensor) -> Characteristic:
    """Of Gaussian posteriors N(mean_i, diag variance_i), (n, d) each, as one group, whose `sketch` has the same."""
    phase, exponent = mean @ frequencies.T, -0.5 * (variance @ frequencies.square().T)
    cosine, sine = _Sums.apply(phase, exponent)  # type: ignore[no-untyped-call]
    return cosine[0] / len(mean), sine[0] / len(mean)


def distance(first: Characteristic, second: Characteristic, reference: Characteristic) -> Tensor:
    """Unbiased E_t |φ(t) - φ_ref(t)|² from those of two independent half-batches. Scalar."""
    real, imaginary = reference
    return ((first[0] - real) * (second[0] - real) + (first[1] - imaginary) * (second[1] - imaginary)).mean()


class _Sums(torch.autograd.Function):
    """Sums over rows of damped cosines and sines of phases and exponents, (n, m): (1, m) each.

    With its gradient, for which autograd would compute each sine and cosine anew and fill more such matrices.
    """

    @staticmethod
    def forward(ctx: Any, phase: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine, damping = phase.cos(), phase.sin(), exponent.exp()
        ctx.save_for_backward(cosine, sine, damping)
        ones = phase.new_ones(1, len(phase))
        return ones @ (cosine * damping), ones @ (sine * damping)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_cosine: Tensor, of_sine: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine, damping = ctx.saved_tensors
        of_phase = (of_sine * damping).mul_(cosine)
        of_phase -= (of_cosine * damping).mul_(sine)
        of_exponent = (of_sine * sine).add_(of_cosine * cosine)
        return of_phase, of_exponent.mul_(damping)


def _squared_differences(parts: Sketch) -> Tensor:
    total = parts.count.sum().clamp_min(1.0)
    share = (parts.count / total).unsqueeze(1)
    cosine = (parts.cosine - share * parts.cosine.sum(0)) / total
    sine = (parts.sine - share * parts.sine.sum(0)) / total
    return cosine.square() + sine.square()
