"""Nothing in a schema stands for too few records."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner.disclosure import disclose, merge_rare, quantile_table
from data_owner.ingest import Records
from shared.errors import PolicyRefusal
from shared.schema import MERGED, CategoricalColumn

MINIMUM = 10


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=30, max_size=300), st.floats(0.0, 0.3))
def test_no_category_is_left_with_fewer_records_than_the_minimum(labels: list[str], gaps: float) -> None:
    values = pd.Series(labels, dtype="str")
    values[np.random.default_rng(0).random(len(values)) < gaps] = None
    merged = merge_rare(values, MINIMUM)
    counts = merged.value_counts(dropna=False)
    assert (counts >= MINIMUM).all()
    kept = merged.notna() & (merged != MERGED)
    assert (merged[kept] == values[kept]).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=40, max_size=400))
def test_the_ends_of_a_table_are_means_of_the_ten_outermost_records(values: list[float]) -> None:
    ordered = np.sort(values)
    table = quantile_table(np.asarray(values), MINIMUM, 8)
    assert table.values[0] == pytest.approx(ordered[:MINIMUM].mean(), rel=1e-4, abs=1e-4)
    assert table.values[-1] == pytest.approx(ordered[-MINIMUM:].mean(), rel=1e-4, abs=1e-4)


def test_a_unique_value_is_not_in_the_table_but_a_shared_one_is() -> None:
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(50.0, 9.0, 500), np.full(40, 33.3), [777.777]])
    table = quantile_table(values, MINIMUM, 6)
    assert 33.3 in table.values
    assert 777.777 not in table.values
    assert not set(table.values) & set(np.round(values[:500], 6))


def test_the_table_of_twice_the_records_is_the_same_table() -> None:
    values = np.concatenate([np.random.default_rng(0).gamma(2.0, 5.0, 9_000).round(2), np.zeros(2_000)])
    once, twice = quantile_table(values, MINIMUM, 2), quantile_table(np.repeat(values, 2), MINIMUM, 2)
    assert len(once.ranks) == len(twice.ranks)


def test_declared_bounds_are_the_ends_of_the_table() -> None:
    table = quantile_table(np.random.default_rng(0).uniform(10.0, 90.0, 500), MINIMUM, 3, (0.0, 100.0))
    assert (table.values[0], table.values[-1]) == (0.0, 100.0)


def test_a_rare_category_is_merged_in_schema_and_table(records: Records) -> None:
    frame = records.frame.copy()
    frame.loc[:3, "ward"] = "tropical"
    schema, table = disclose(Records(frame, records.columns, records.positive), MINIMUM)
    (ward,) = (column for column in schema.columns if column.name == "ward")
    assert isinstance(ward, CategoricalColumn)
    assert "tropical" not in ward.categories
    assert MERGED in ward.categories
    assert "tropical" not in set(table["ward"].dropna())


def test_too_small_a_group_is_refused(records: Records) -> None:
    frame = records.frame.copy()
    frame.loc[:3, "région"] = "west"
    with pytest.raises(PolicyRefusal, match="sensitive group"):
        disclose(Records(frame, records.columns, records.positive), MINIMUM)


def test_too_small_a_class_is_refused(records: Records) -> None:
    frame = records.frame.copy()
    frame["died"] = np.where(frame.index < 4, "1", "0")
    with pytest.raises(PolicyRefusal, match="class of the target"):
        disclose(Records(frame, records.columns, records.positive), MINIMUM)
