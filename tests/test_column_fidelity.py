"""What is said of a column's fidelity, by tables whose faults are known."""

import numpy as np
import pandas as pd
import pytest
from prdc import compute_prdc
from scipy.stats import ks_2samp

from data_owner.benchmark.cells import Study, split
from data_owner.benchmark.column_fidelity import ColumnFidelity, TableFidelity, table_fidelity
from shared.metrics import FIDELITY_ROWS, NEIGHBOURS, density_coverage, design_matrix
from shared.schema import NumericColumn, Schema


@pytest.fixture(scope="module")
def parts() -> tuple[Schema, pd.DataFrame, pd.DataFrame]:
    return split(Study(dataset="support2", sensitive=("race",), folds=5), 0, 0)


def column(found: TableFidelity, name: str) -> ColumnFidelity:
    return next(each for each in found.columns if each.name == name)


def test_a_table_is_faithful_to_itself(parts: tuple[Schema, pd.DataFrame, pd.DataFrame]) -> None:
    schema, real, _ = parts
    found = table_fidelity(real, real, schema)
    assert found.associations == 0.0
    assert found.patterns == 0.0
    for each in found.columns:
        assert each.distance == 0.0
        assert {each.repeated, each.rare} <= {None, 1.0}
        assert each.whole is None or each.whole > 0.99, "fewer than the minimum count are not whole"
        assert each.missing in (None, 0.0)


def test_each_fault_shows_in_its_own_figure(parts: tuple[Schema, pd.DataFrame, pd.DataFrame]) -> None:
    schema, real, _ = parts
    generator = np.random.default_rng(0)
    faulty = real.copy()
    faulty["scoma"] = real["scoma"] + 0.25
    faulty["income"] = real["income"].fillna("under $11k")
    faulty["race"] = real["race"].replace("asian", "white")
    faulty["alb"] = generator.permutation(real["alb"])
    found = table_fidelity(real, faulty, schema)
    assert column(found, "scoma").repeated == 0.0
    assert column(found, "scoma").whole == 0.0
    assert column(found, "income").missing == pytest.approx(real["income"].isna().mean())
    assert column(found, "race").rare == 0.5, "one of its two rare categories is gone"
    assert column(found, "alb").distance == 0.0
    assert found.patterns is not None
    assert found.patterns > 0.1
    assert found.associations > 0.0
    assert column(found, "age") == column(table_fidelity(real, real, schema), "age")


def test_repeated_values_are_matched_one_by_one() -> None:
    schema, real, _ = split(Study(dataset="adult", sensitive=("sex",), folds=5), 0, 0)
    half = real.copy()
    gains = half["capital-gain"].to_numpy(copy=True)
    zeros = np.flatnonzero(gains == 0)
    gains[zeros[: len(zeros) // 2]] = 1234.5
    half["capital-gain"] = gains
    assert column(table_fidelity(real, half, schema), "capital-gain").repeated == pytest.approx(0.5, abs=0.03)


def test_the_distance_of_numbers_is_kolmogorovs(parts: tuple[Schema, pd.DataFrame, pd.DataFrame]) -> None:
    schema, real, other = parts
    for each in table_fidelity(real, other, schema).columns:
        if isinstance(next(known for known in schema.tabular if known.name == each.name), NumericColumn):
            oracle = ks_2samp(real[each.name].dropna(), other[each.name].dropna(), method="asymp")
            assert each.distance == pytest.approx(oracle.statistic)


def test_a_column_without_a_value_is_as_far_as_can_be(parts: tuple[Schema, pd.DataFrame, pd.DataFrame]) -> None:
    schema, real, _ = parts
    for name in ("age", "income"):
        assert column(table_fidelity(real, real.assign(**{name: None}), schema), name).distance == 1.0


def test_density_and_coverage_are_those_of_the_library() -> None:
    schema, training, held_out = split(Study(dataset="compas", sensitive=("sex",), folds=5), 0, 0)
    others = training.iloc[:2000]
    points, other = (design_matrix(table, schema, with_target=True) for table in (held_out, others))
    numeric = sum(column.kind in ("number", "integer", "date") for column in schema.columns)
    centre, spread = points[:, :numeric].mean(0), points[:, :numeric].std(0)
    for matrix in (points, other):
        matrix[:, :numeric] = (matrix[:, :numeric] - centre) / spread
    assert len(held_out) < FIDELITY_ROWS
    oracle = compute_prdc(points, other, NEIGHBOURS)
    found = density_coverage(held_out, others, schema, 0)
    assert (found.density, found.coverage) == pytest.approx((oracle["density"], oracle["coverage"]))
