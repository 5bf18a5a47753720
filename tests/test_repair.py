"""Scores for repaired targets, whatever part of the records a training is given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data_owner.learning.repair import out_of_fold_scores
from shared.schema import Schema


@pytest.mark.parametrize("few", [1, 2])
def test_a_class_of_one_or_two_of_many_records_stops_no_training(
    disclosed: tuple[Schema, pd.DataFrame], few: int
) -> None:
    """As in a shadow's half of a large table, of whose rarest class the other half has the most."""
    schema, table = disclosed
    wider = schema.target.model_copy(update={"categories": ("-1", *schema.target.categories)})
    columns = tuple(wider if column.name == wider.name else column for column in schema.columns)
    wide = Schema(columns=columns, positive=schema.positive, groups=schema.groups)
    many = pd.concat([table] * 21, ignore_index=True)  # four fifths are more than 10,000
    many.loc[: few - 1, wider.name] = "-1"
    found = out_of_fold_scores(wide, many, seed=0)
    np.testing.assert_allclose(found.sum(1), 1.0)
