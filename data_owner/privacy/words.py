"""Rows in the words of another schema: noise leaves some categories and groups without one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.schema import MERGED, MISSING, CategoricalColumn, Schema


def told(schema: Schema, people: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Canonical records in the words of a schema that noise had a part in, and which of `people` (n,) those are."""
    columns: dict[str, pd.Series] = {}
    has_words = np.ones(len(people), bool)
    for column in schema.columns:
        values = people[column.name]
        if isinstance(column, CategoricalColumn):
            values = values.fillna(MISSING) if MISSING in column.categories else values
            known = values.isin(column.categories)
            if MERGED in column.categories:
                values = values.where(known | values.isna(), MERGED)
                known = values.notna()
            has_words &= (known | (values.isna() & column.optional)).to_numpy()
        columns[column.name] = values
    rows = pd.DataFrame(columns)
    groups = {group.values for group in schema.groups}
    keys = rows[[column.name for column in schema.sensitive]].itertuples(index=False, name=None)
    has_words &= np.array([key in groups for key in keys])
    return rows[has_words].reset_index(drop=True), has_words
