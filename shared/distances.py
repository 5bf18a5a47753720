"""How far apart two samples are, from 0 for alike to 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.schema import CategoricalColumn, NumericColumn


def column_distance(column: NumericColumn | CategoricalColumn, first: pd.Series, second: pd.Series) -> float:
    """Between the values of a canonical column that are present, Kolmogorov's for numbers and total variation for
    categories; 1 where either has none."""
    values, others = first.dropna(), second.dropna()
    if not len(values) or not len(others):
        return 1.0
    if isinstance(column, NumericColumn):
        return _kolmogorov(values.to_numpy(float), others.to_numpy(float))
    return total_variation(values.value_counts(normalize=True), others.value_counts(normalize=True))


def total_variation(first: pd.Series, second: pd.Series) -> float:
    """Between two distributions, given as the share of each value that occurs."""
    return float(min(1.0, 0.5 * first.sub(second, fill_value=0.0).abs().sum()))


def _kolmogorov(values: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    points = np.concatenate((values, others))
    below, others_below = (np.searchsorted(np.sort(each), points, "right") / len(each) for each in (values, others))
    return float(np.abs(below - others_below).max())
