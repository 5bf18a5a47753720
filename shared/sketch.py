"""The characteristic-function sketch (DESIGN section 3).

For points z_i in R^d, groups c and frequencies t_1..t_m the sketch keeps, per group, the count n_c and the sums

    S_c = Σ_{i in c} exp(i t_j·z_i),     j = 1..m        (held as cosine and sine sums)
    E_c = Σ_{i in c} |E exp(i t_j·z_i)|²                  (n_c itself when every z_i is a point)

It is linear (sketches of two parts of a population add up), one record moves S_c by exactly √m in L2, and for
a Gaussian posterior N(μ, diag v) the expectation over z only multiplies by exp(-½ Σ t²v).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


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

    def pooled(self) -> Sketch:
        """The sketch of all groups together, shape (1, m)."""
        return Sketch(
            self.cosine.sum(0, keepdim=True),
            self.sine.sum(0, keepdim=True),
            self.energy.sum(0, keepdim=True),
            self.count.sum(0, keepdim=True),
        )

    def characteristic_function(self) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of φ_c(t) = S_c / n_c, each (groups, m). An empty group gives zeros."""
        count = self.count.clamp_min(1.0).unsqueeze(1)
        return self.cosine / count, self.sine / count


def draw_frequencies(
    count: int,
    dimensions: int,
    scales: tuple[float, ...],
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Frequencies of shape (count, dimensions) from the equal mixture of N(0, scale² I) over `scales`.

    The mixture is the weight w of V², and its kernel is `kernel`. Scales are per coordinate of z.
    """
    unit = torch.randn(count, dimensions, generator=generator, device=device)
    each = torch.tensor(scales, device=device)
    return unit * each[torch.arange(count, device=device) % len(scales)].unsqueeze(1)


def kernel(squared_distance: Tensor, scales: tuple[float, ...]) -> Tensor:
    """E_w cos(t·δ) for the weight of `draw_frequencies`: the mean over scales of exp(-½ scale² |δ|²)."""
    return torch.stack([torch.exp(-0.5 * scale**2 * squared_distance) for scale in scales]).mean(0)


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
    weight w), which counts each record against itself and so never reaches zero on a finite batch.
    """
    return _squared_differences(parts).sum(0).mean()


def dependence(parts: Sketch) -> Tensor:
    """Unbiased estimate of the population's V²(z, s) for given group counts. Scalar; may be negative.

    The plug-in form minus, for each record, what it contributes against itself, which is its energy less the
    unbiased estimate of |φ_c(t)|² of its own group.
    """
    total = parts.count.sum()
    share = parts.count / total
    weight = (1.0 - 2.0 * share + share.square().sum()) / total.square()
    others = (parts.count - 1.0).clamp_min(1.0).unsqueeze(1)
    modulus = parts.cosine.square() + parts.sine.square()
    own = parts.energy - (modulus - parts.energy) / others
    return (_squared_differences(parts).sum(0) - (weight.unsqueeze(1) * own).sum(0)).mean()


def distance(first: Sketch, second: Sketch, real: Tensor, imaginary: Tensor) -> Tensor:
    """Unbiased E_t |φ(t) - φ_ref(t)|² from two independent one-group half-batches. Scalar.

    real, imaginary: the reference characteristic function, (m,).
    """
    first_real, first_imaginary = first.characteristic_function()
    second_real, second_imaginary = second.characteristic_function()
    return (
        (first_real[0] - real) * (second_real[0] - real)
        + (first_imaginary[0] - imaginary) * (second_imaginary[0] - imaginary)
    ).mean()


def _squared_differences(parts: Sketch) -> Tensor:
    total = parts.count.sum()
    share = (parts.count / total).unsqueeze(1)
    cosine = (parts.cosine - share * parts.cosine.sum(0)) / total
    sine = (parts.sine - share * parts.sine.sum(0)) / total
    return cosine.square() + sine.square()
