"""Association between columns of a mixed table, on one scale from -1 to 1."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.codec import positions
from shared.schema import NumericColumn, Schema

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def associations(schema: Schema, table: pd.DataFrame) -> Floats:
    """How closely each two columns hang together, (columns, columns); a picture is no column here.

    Numbers, whose missing values take the mean rank, and categories of two: rank correlation, from -1 to 1. With more
    categories, one of which may be that none is recorded, there is no direction, and 0 to 1: the correlation ratio of
    a number's ranks, Cramér's V of two categories. Of both chance is taken off, so tables of any length compare.
    """
    ranked: dict[int, Floats] = {}
    categories: dict[int, Integers] = {}
    for place, column in enumerate(schema.tabular):
        if isinstance(column, NumericColumn):
            ranked[place] = _ranks(table[column.name])
        elif len(column.categories) + column.optional <= 2:
            ranked[place] = _ranks(pd.Series(positions(column, table[column.name])))
        else:
            # of those that occur
            categories[place] = np.unique(positions(column, table[column.name]), return_inverse=True)[1]
    found = np.zeros((len(schema.tabular), len(schema.tabular)))
    for (row, ranks), (at, others) in combinations(ranked.items(), 2):
        found[row, at] = ranks @ others
    for row, category in categories.items():
        for at, ranks in ranked.items():
            found[row, at] = _correlation_ratio(category, ranks)
    for (row, first), (at, second) in combinations(categories.items(), 2):
        found[row, at] = _cramers_v(first, second)
    return found + found.T + np.eye(len(found))


def _ranks(values: pd.Series) -> Floats:
    """Ranks (n,) less their mean, of unit length; zeros if all are equal."""
    ranks = values.rank()
    centred = (ranks - ranks.mean()).fillna(0.0).to_numpy(float)
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0.0 else centred


def _correlation_ratio(category: Integers, ranks: Floats) -> float:
    """η of unit-length `ranks`, from Kelley's ε² (1935)."""
    counts = np.bincount(category)
    between = float((np.bincount(category, ranks) ** 2 / counts).sum())
    within = len(ranks) - len(counts)
    if within <= 0 or not ranks.any():
        return 0.0
    return max(0.0, 1.0 - (1.0 - between) * (len(ranks) - 1) / within) ** 0.5


def _cramers_v(first: Integers, second: Integers) -> float:
    """With the correction of Bergsma (2013)."""
    if len(first) < 2 or not (first.any() and second.any()):
        return 0.0
    height, width = first.max() + 1, second.max() + 1
    share = np.bincount(first * width + second, minlength=height * width).reshape(height, width) / len(first)
    chance = 1.0 / (len(first) - 1)
    squared = (share**2 / np.outer(share.sum(1), share.sum(0))).sum() - 1.0 - (height - 1) * (width - 1) * chance
    most = min(each - 1 - (each - 1) ** 2 * chance for each in (height, width))
    return min(1.0, max(0.0, float(squared / most)) ** 0.5) if most > 0.0 else 0.0
