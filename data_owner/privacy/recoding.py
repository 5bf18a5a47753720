"""Records put into the categories and groups of a schema that noise had a part in: some have no place there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.conform import merged_groups
from shared.schema import MERGED, MISSING, CategoricalColumn, NumericColumn, Schema


def recoded(schema: Schema, people: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Records as a schema that noise had a part in has them, and which of the canonical `people` (n,) those are."""
    columns: dict[str, pd.Series] = {}
    has_place = np.ones(len(people), bool)
    for column in schema.columns:
        values = people[column.name]
        if isinstance(column, CategoricalColumn):
            values = values.fillna(MISSING) if MISSING in column.categories else values
            known = values.isin(column.categories)
            if MERGED in column.categories:
                values = values.where(known | values.isna(), MERGED)
                known = values.notna()
            has_place &= (known | (values.isna() & column.optional)).to_numpy()
        elif isinstance(column, NumericColumn) and column.kind == "number":
            values = values.round(column.decimals)  # as microdata is, or it would lie beside the point that it is of
        columns[column.name] = values
    rows = merged_groups(schema, pd.DataFrame(columns))
    groups = {group.values for group in schema.groups}
    keys = rows[[column.name for column in schema.sensitive]].itertuples(index=False, name=None)
    has_place &= np.array([key in groups for key in keys])
    return rows[has_place].reset_index(drop=True), has_place
