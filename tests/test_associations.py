"""Association of columns of any kind, against what is known of tables that are made for it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import association

from data_owner.records.disclosure import disclose
from data_owner.records.infer import infer
from data_owner.records.ingest import ingest
from shared.associations import associations
from shared.schema import Schema

ROWS = 2_000
WARDS = np.array(["north", "east", "south", "west"])


def made() -> tuple[Schema, pd.DataFrame]:
    """Ward fixes the level of `dose` and all but fixes `nurse`; names of wards do not sort by dose. `noise` and `lot`
    are drawn apart."""
    generator = np.random.default_rng(0)
    ward = generator.integers(0, 4, ROWS)
    follows = generator.random(ROWS) < 0.95
    table = pd.DataFrame(
        {
            "ward": WARDS[ward],
            "nurse": np.array(["b", "d", "a", "c"])[np.where(follows, ward, generator.integers(0, 4, ROWS))],
            "dose": np.array([3.0, 1.0, 0.0, 2.0])[ward] + 0.1 * generator.standard_normal(ROWS),
            "noise": generator.standard_normal(ROWS),
            "lot": np.char.add("lot ", generator.integers(0, 12, ROWS).astype(str)),
            "sex": generator.choice(["f", "m"], ROWS),
            "died": np.where(generator.random(ROWS) < 0.1 + 0.2 * ward, "1", "0"),
        }
    ).astype(dict.fromkeys(("ward", "nurse", "lot", "sex", "died"), "str"))
    settings = infer(table, name="t", source="t", target="died", sensitive=("sex",), positive="1")
    return disclose(ingest(table, settings), 10)


@pytest.fixture(scope="module")
def known() -> tuple[Schema, pd.DataFrame]:
    return made()


def between(schema: Schema, table: pd.DataFrame, first: str, second: str) -> float:
    return float(associations(schema, table)[schema.names.index(first), schema.names.index(second)])


def test_associations_are_one_with_themselves_and_symmetric(known: tuple[Schema, pd.DataFrame]) -> None:
    found = associations(*known)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    np.testing.assert_allclose(np.diag(found), 1.0)


def test_a_category_that_fixes_another_column_shows_whatever_order_its_names_sort_in(
    known: tuple[Schema, pd.DataFrame],
) -> None:
    schema, table = known
    assert between(schema, table, "ward", "dose") > 0.95
    assert between(schema, table, "ward", "nurse") > 0.9
    codes = table[["ward", "nurse"]].apply(lambda column: column.astype("category").cat.codes)
    assert abs(codes.corr("spearman").iloc[0, 1]) < 0.5, "a rank correlation of codes would not have shown it"


def test_columns_drawn_apart_hang_together_no_more_in_short_tables_than_in_long(
    known: tuple[Schema, pd.DataFrame],
) -> None:
    schema, table = known
    for rows in (100, ROWS):
        found = associations(schema, table.iloc[:rows])
        apart = [found[schema.names.index("lot"), schema.names.index(name)] for name in ("ward", "nurse", "noise")]
        assert np.mean(apart) < 0.15, "uncorrected, twelve lots of a hundred rows would show .3"


def test_cramers_v_of_many_rows_is_scipys(known: tuple[Schema, pd.DataFrame]) -> None:
    schema, table = known
    counts = pd.crosstab(table["ward"], table["nurse"]).to_numpy()
    assert between(schema, table, "ward", "nurse") == pytest.approx(association(counts, method="cramer"), abs=0.01)


@given(st.permutations(range(4)))
@settings(max_examples=20, deadline=None)
def test_exchanging_the_names_of_categories_changes_no_strength(order: list[int]) -> None:
    schema, table = made()
    renamed = table.assign(ward=table["ward"].map(dict(zip(WARDS, WARDS[order], strict=True))).astype("str"))
    np.testing.assert_allclose(associations(schema, renamed), associations(schema, table), atol=1e-12)


def test_two_categories_keep_the_direction_of_what_they_hang_together_with(
    known: tuple[Schema, pd.DataFrame],
) -> None:
    schema, table = known
    turned = table.assign(died=table["died"].map({"0": "1", "1": "0"}).astype("str"))
    assert between(schema, turned, "died", "dose") == pytest.approx(-between(schema, table, "died", "dose"))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows_show_nothing_and_fail_at_nothing(known: tuple[Schema, pd.DataFrame], rows: int) -> None:
    schema, table = known
    found = associations(schema, table.iloc[:rows])
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 1.0 + 1e-12).all()
