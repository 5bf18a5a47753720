"""Association between columns of a mixed table, on one scale from -1 to 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.codec import positions
from shared.schema import NumericColumn, Schema


def associations(schema: Schema, table: pd.DataFrame) -> NDArray[np.float64]:
    """Spearman rank correlations, (columns, columns); a picture is no column here.

    Missing numbers take the mean rank. Categories are ranked in the schema's order: meaningful for two of them, and
    for more a fingerprint that only compares tables of one schema.
    """
    ranked = {}
    for column in schema.tabular:
        if isinstance(column, NumericColumn):
            ranks = table[column.name].rank()
            ranked[column.name] = ranks.fillna(ranks.mean())
        else:
            ranked[column.name] = pd.Series(positions(column, table[column.name]), index=table.index).rank()
    matrix = pd.DataFrame(ranked).corr().to_numpy(copy=True)
    matrix[np.isnan(matrix)] = 0.0
    return matrix
