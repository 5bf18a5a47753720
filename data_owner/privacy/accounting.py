"""What noisy queries cost together: Rényi and privacy-loss-distribution accounting, the larger of the two.

Every query is a vector of counts, or of sums of absolute differences between counts and a model's, with Gaussian noise.
Neighbours differ by all records of one person, added or removed; a query's noise multiplier is its noise scale over how
far such a change moves it in L2.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from pydantic import Field
from scipy.optimize import brentq

from shared.errors import BadInput
from shared.frozen import Frozen

ORDERS = (*(1.0 + step / 10.0 for step in range(1, 100)), *range(12, 64), 80.0, 96.0, 128.0, 256.0, 512.0, 1024.0)
"""Rényi orders: Opacus' own, and larger ones for small ε."""

LEAST, MOST = 1e-7, 1e4
"""Between which the zero-concentrated cost ρ of a budget is sought."""


class Query(Frozen):
    """`count` queries alike. `sampling` below 1: each is asked of a Poisson sample of that rate, drawn anew."""

    what: str = Field(max_length=200)
    noise_multiplier: float = Field(gt=0.0)
    count: int = Field(default=1, ge=1)
    sampling: float = Field(default=1.0, gt=0.0, le=1.0)

    @property
    def rho(self) -> float:
        """The zero-concentrated cost; of a sample no more than this."""
        return self.count / (2.0 * self.noise_multiplier**2)

    @property
    def event(self) -> DpEvent:
        one: DpEvent = GaussianDpEvent(self.noise_multiplier)
        return SelfComposedDpEvent(
            one if self.sampling == 1.0 else PoissonSampledDpEvent(self.sampling, one), self.count
        )


class Guarantee(Frozen):
    """(ε, δ) by both accountants. What is published is `epsilon`, the larger."""

    rdp: float = Field(ge=0.0)
    pld: float = Field(ge=0.0)
    delta: float = Field(gt=0.0, lt=1.0)

    @property
    def epsilon(self) -> float:
        return max(self.rdp, self.pld)


def guarantee(queries: Sequence[Query], delta: float) -> Guarantee:
    """What all of `queries` cost together at `delta`, each chosen with the answers of those before it known."""
    if not queries:
        return Guarantee(rdp=0.0, pld=0.0, delta=delta)
    renyi, losses = RdpAccountant(ORDERS), PLDAccountant()
    for query in queries:
        renyi.compose(query.event)
        losses.compose(query.event)
    return Guarantee(rdp=float(renyi.get_epsilon(delta)), pld=float(losses.get_epsilon(delta)), delta=delta)


def affordable(epsilon: float, delta: float, draws: int = 1) -> float:
    """The most ρ = Σ 1/(2σ²) over the queries of each of `draws` draws that keeps all of them within (ε, δ).

    Any number of Gaussian queries cost what one of the same ρ does, so how they share it does not matter. Raises
    `BadInput` for an ε that no amount of noise reaches.
    """

    def together(rho: float) -> Query:
        return Query(what="all", noise_multiplier=1.0 / sqrt(2.0 * rho * draws))

    def over(rho: float) -> float:
        renyi = RdpAccountant(ORDERS)
        renyi.compose(together(rho).event)
        return float(renyi.get_epsilon(delta)) - epsilon

    try:
        rho = float(brentq(over, LEAST, MOST, xtol=1e-12, rtol=1e-6)) * (1.0 - 1e-4)
    except ValueError:
        raise BadInput(
            "no noise makes so many draws so private", field="privacy.epsilon", remedy="raise it, or lower draws"
        ) from None
    while guarantee([together(rho)], delta).epsilon > epsilon:
        rho *= 0.99
    return rho
