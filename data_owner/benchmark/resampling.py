"""What chance leaves of who was held out: the same predictions scored on people drawn anew (Efron's bootstrap).

A score counts people by group, class and prediction, so one draw of n people is one draw of those counts.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd

from shared.codec import group_positions
from shared.frozen import Frozen
from shared.metrics import Floats, Integers, judged_groups, outcome
from shared.schema import Schema

RESAMPLES = 1000
LEVEL = 0.95


class Interval(Frozen):
    """Where `LEVEL` of the draws lie."""

    low: float
    high: float

    @classmethod
    def of(cls, draws: Floats) -> Self:
        low, high = np.quantile(draws, ((1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0))
        return cls(low=float(low), high=float(high))

    @classmethod
    def mean(cls, found: list[Self]) -> Self:
        return cls(low=float(np.mean([one.low for one in found])), high=float(np.mean([one.high for one in found])))


class Resampled(Frozen):
    """Intervals of scores under draws of people."""

    demographic_parity_ratio: Interval
    equalized_odds_ratio: Interval
    accuracy: Interval

    @classmethod
    def mean(cls, found: list[Self]) -> Self:
        """The mean over seeds of each end: how wide one seed's is."""
        return cls(**{name: Interval.mean([getattr(one, name) for one in found]) for name in cls.model_fields})


def resampled(test: pd.DataFrame, predicted: Integers, schema: Schema, seed: int) -> Resampled:
    """Of predictions (n,) of 0 or 1 for held-out rows, whose groups are those that their score judges."""
    groups = judged_groups(group_positions(schema, test))
    return intervals(outcome(test, schema), predicted, groups, np.random.default_rng(seed))


def intervals(truth: Integers, predicted: Integers, groups: Integers, generator: np.random.Generator) -> Resampled:
    """The same of 0/1 arrays (n,) in groups (n,)."""
    labels, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(labels), 2, 2))
    np.add.at(counts, (group, truth, predicted), 1)
    drawn = generator.multinomial(len(truth), counts.ravel() / len(truth), RESAMPLES)
    drawn = drawn.reshape(RESAMPLES, *counts.shape)  # of (draw, group, class, prediction)
    negative, positive = drawn[:, :, 0], drawn[:, :, 1]
    return Resampled(
        demographic_parity_ratio=Interval.of(_ratio(negative + positive)),
        equalized_odds_ratio=Interval.of(np.minimum(_ratio(positive), _ratio(negative))),
        accuracy=Interval.of((negative[:, :, 0] + positive[:, :, 1]).sum(1) / len(truth)),
    )


def _ratio(people: Integers) -> Floats:
    """Lowest over highest share of positive predictions of groups, (draws,), of people (draws, groups, prediction); 1
    where nobody has one. A group of nobody has no share."""
    total = people.sum(2)
    share = np.divide(people[:, :, 1], total, out=np.full(total.shape, np.nan), where=total > 0)
    highest = np.nanmax(share, 1, initial=0.0)
    return np.divide(np.nanmin(share, 1, initial=1.0), highest, out=np.ones(len(share)), where=highest > 0.0)
