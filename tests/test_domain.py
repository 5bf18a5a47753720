"""What a column declares that it can hold: a grid of cells that every value is on, and that a draw can count."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_owner.datasets import codebook, load
from data_owner.privacy.declarations import with_budget
from data_owner.privacy.domain import NumericDomain, domains
from data_owner.records.disclosure import quantile_table
from data_owner.records.infer import infer
from data_owner.records.ingest import read
from data_owner.settings import ColumnSettings, OwnerSettings
from shared.canonical import canonical
from shared.errors import BadInput, PolicyRefusal
from shared.limits import LIMITS
from shared.schema import MISSING
from tests.test_private_marginals import declared, people


def declaring(column: str, **changes: object) -> OwnerSettings:
    found = declared(people())
    entry = ColumnSettings.model_validate(found.columns[column].model_dump() | changes)
    return found.model_copy(update={"columns": {**found.columns, column: entry}})


def numbers(found: OwnerSettings, column: str) -> NumericDomain:
    (one,) = (one for one in domains(read(people(), found, as_declared=True).columns, found) if one.name == column)
    assert isinstance(one, NumericDomain)
    return one


@pytest.mark.parametrize(
    ("kind", "bounds", "decimals"),
    [
        ("integer", (-0.5, 99.5), None),
        ("number", (0.25, 9.0), 1),
        ("number", (0.0, 0.05), 1),
        ("number", (0.0, 1.5), 0),
    ],
)
def test_bounds_between_two_values_of_the_column_are_refused(
    kind: str, bounds: tuple[float, float], decimals: int | None
) -> None:
    with pytest.raises(ValidationError, match="no more decimals than are declared"):
        ColumnSettings(kind=kind, bounds=bounds, decimals=decimals)


@settings(max_examples=40, deadline=None)
@given(st.integers(-9999, 9999), st.integers(2, 5000), st.integers(0, 3))
def test_every_value_that_is_declared_comes_back_as_itself(low: int, steps: int, decimals: int) -> None:
    ends = low / 10**decimals, (low + steps) / 10**decimals
    found = numbers(declaring("weight", bounds=ends, decimals=decimals), "weight")
    values = pd.Series(np.round(np.arange(low, low + steps + 1) / 10**decimals, decimals))
    assert found.decode(found.encode(values)).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("weight", {"bounds": (0.0, 1e10), "decimals": 9}),
        ("weight", {"bounds": (-1e308, 1e308), "decimals": None}),
        ("age", {"bounds": (0.0, 1e20)}),
        ("died", {"kind": "category", "categories": ("1",)}),
        ("died", {"kind": "category", "categories": tuple(map(str, range(101)))}),
    ],
)
def test_what_no_draw_can_count_is_refused_before_one_is_charged(column: str, changes: dict[str, object]) -> None:
    found = declaring(column, **changes)
    with pytest.raises((BadInput, PolicyRefusal)) as refused:
        domains(read(people(), found, as_declared=True).columns, found)
    assert refused.value.field == column


def test_a_quantile_table_stays_within_bounds_that_are_finer_than_its_decimals() -> None:
    values = np.random.default_rng(0).uniform(0.2, 99.8, 500).round(1)
    heights = quantile_table(values, 10, 1, (0.14, 99.95), beyond=10).values
    assert (heights[0], heights[-1]) == (0.2, 99.9)


@pytest.mark.parametrize("name", ["adult", "compas"])
def test_the_codebook_declares_every_column_and_knows_every_category(name: str) -> None:
    rows = load(name).head(500)
    target, positive = {"adult": ("income", ">50K"), "compas": ("two_year_recid", "1")}[name]
    found = infer(rows, name=name, source=name, target=target, sensitive=("sex",), positive=positive)
    found = with_budget(found, 1.0, codebook(name))
    records = read(rows, found, as_declared=True)
    assert len(domains(records.columns, found)) == len(found.columns)
    assert len(records.frame) == len(rows)
    for column, values in records.frame.items():
        assert values.isna().sum() == rows[column].isna().sum(), column


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8"])
@pytest.mark.parametrize("odd", ["unknown", "999", "-1"])
def test_every_category_that_is_declared_can_be_drawn(dtype: str, odd: str) -> None:
    found = declaring("died", role="feature", kind="category", categories=("0", "1", odd))
    found.columns["ward"] = found.columns["ward"].model_copy(update={"role": "target"})
    found = found.model_copy(update={"positive": "a"})
    table = people().astype({"died": dtype})
    (space,) = (one for one in domains(read(table, found, as_declared=True).columns, found) if one.name == "died")
    back = canonical(space.decode(np.arange(space.cells)), "died", "category")
    assert back.isna().tolist() == [False, False, False, True]
    assert back[:3].tolist() == ["0", "1", odd]


def test_bounds_that_a_columns_type_cannot_hold_are_refused_before_a_draw_is_charged() -> None:
    found = declaring("age", kind="date", bounds=("1900-01-01", "9999-12-31"))
    nanoseconds = people().assign(age=pd.Timestamp("2021-03-04").as_unit("ns"))
    with pytest.raises(BadInput, match="bounds that its type cannot hold") as refused:
        domains(read(nanoseconds, found, as_declared=True).columns, found)
    assert refused.value.field == "age"
    assert "narrow its bounds in owner.toml" in refused.value.remedy
    seconds = nanoseconds.astype({"age": "datetime64[s]"})
    (space,) = (one for one in domains(read(seconds, found, as_declared=True).columns, found) if one.name == "age")
    assert space.decode(np.array([0, space.cells - 2])).astype("str").tolist() == ["1900-01-01", "9999-12-31"]


@pytest.mark.parametrize("declared", [("1",), ("1", MISSING), tuple(map(str, range(LIMITS.classes + 1)))])
def test_an_owner_who_declares_too_few_or_too_many_classes_is_told_so(declared: tuple[str, ...]) -> None:
    table = pd.DataFrame({"age": [*range(20, 80)] * 2, "sex": ["f", "m"] * 60, "died": ["0", "1", "1"] * 40})
    settings = infer(table, name="n", source="s", target="died", sensitive=("sex",))
    columns = dict(settings.columns)
    columns["age"] = columns["age"].model_copy(update={"kind": "integer", "bounds": (0.0, 100.0)})
    columns["sex"] = columns["sex"].model_copy(update={"categories": ("f", "m")})
    columns["died"] = columns["died"].model_copy(update={"kind": "category", "categories": declared})
    with pytest.raises(BadInput, match="2 to 100 classes") as caught:
        read(table, settings.model_copy(update={"columns": columns}), as_declared=True)
    assert caught.value.field == "died"
