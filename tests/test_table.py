"""Tables keep their types through the canonical form, and files appear whole or not at all."""

import datetime
import errno
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from data_owner.settings import ColumnSettings
from shared.canonical import canonical, plain, restore, restore_column
from shared.conform import conform
from shared.errors import BadInput, Unreachable
from shared.folder import PUBLIC
from shared.limits import LIMITS
from shared.schema import MERGED, CategoricalColumn, ColumnRole, Schema
from shared.table import TableWriter, check_names, read_table
from tests.conftest import patients, settings_for


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    whole=st.sampled_from(["int64", "int32", "int8", "Int64", "uint16"]),
    number=st.sampled_from(["float64", "float32"]),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    flag=st.sampled_from(["bool", "boolean"]),
    ward=st.sampled_from(["str", "category"]),
)
def test_restore_undoes_canonical_in_every_type(
    seed: int, whole: str, number: str, unit: str, flag: str, ward: str
) -> None:
    table = patients(300, seed)
    types = {"age": whole, "lactate": number, "ventilated": flag, "ward": ward, "admitted": f"datetime64[{unit}]"}
    table = table.assign(ward=table["ward"].fillna("surgery")).astype(types)
    records = ingest(table, settings_for(table))
    schema, canonical = disclose(records, 10)
    back = restore(canonical, schema)
    tolerance = 1e-6 if number == "float32" else 0.0
    pd.testing.assert_frame_equal(
        back.astype({"ventilated": "bool"}),
        table.astype({"ventilated": "bool", "age": back["age"].dtype}),
        rtol=tolerance,
    )
    assert str(back["age"].dtype) == whole.lower()


def test_gaps_in_whole_numbers_come_back_as_gaps_in_whole_numbers() -> None:
    table = patients()
    age = table["age"].astype("float64").mask(table.index < 100)
    schema, canonical = disclose(ingest(table.assign(age=age), settings_for(table)), 10)
    back = restore(canonical, schema)["age"]
    assert str(back.dtype) == "Int64"
    assert back.isna().sum() == 100


@pytest.mark.parametrize("dtype", ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"])
def test_whole_numbers_of_parquet_come_back_in_their_own_type_beside_gaps(dtype: str, tmp_path: Path) -> None:
    table = patients()
    table["age"] = pd.Series([None, *range(40, 99)] * 10, dtype=dtype)
    table["ward"] = pd.Series([None, 1, 2] * 200, dtype=dtype)
    table.to_parquet(tmp_path / "rows.parquet")
    read = read_table(tmp_path / "rows.parquet")
    settings = settings_for(read)
    settings.columns["ward"] = ColumnSettings(kind="category")
    schema, canonical = disclose(ingest(read, settings), 10)
    back = restore(canonical, schema)
    pd.testing.assert_frame_equal(back[["age", "ward"]], table[["age", "ward"]])


def test_iso_dates_come_back_as_iso_dates() -> None:
    table = patients().assign(admitted=patients()["admitted"].dt.strftime("%Y-%m-%d"))
    schema, canonical = disclose(ingest(table, settings_for(table)), 10)
    assert restore(canonical, schema)["admitted"].tolist() == table["admitted"].tolist()


def test_conform_takes_a_restored_table_back() -> None:
    table = patients()
    schema, canonical = disclose(ingest(table, settings_for(table)), 10)
    pd.testing.assert_frame_equal(conform(schema, restore(canonical, schema)), canonical, check_dtype=False)
    with pytest.raises(BadInput, match="lacks"):
        conform(schema, table.drop(columns="ward"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_streamed_parts_are_one_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    parts = [patients(50, seed) for seed in range(3)]
    with TableWriter(path, {"fair4free.seed": "7"}) as writer:
        for part in parts:
            writer.write(part)
            assert not path.exists()
    whole = pd.concat(parts, ignore_index=True)
    back = read_table(path)
    assert back.columns.tolist() == whole.columns.tolist()
    np.testing.assert_allclose(back["lactate"], whole["lactate"])
    assert back["ward"].fillna("").tolist() == whole["ward"].fillna("").tolist()
    if suffix == ".parquet":
        assert parquet.read_metadata(path).metadata[b"fair4free.seed"] == b"7"


def test_a_writer_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")

    def fail_half_way() -> None:
        with TableWriter(path, {}, replaces=True) as writer:
            writer.write(patients(10))
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert [found.name for found in tmp_path.iterdir()] == ["rows.csv"]
    assert path.read_text() == "old"


def through(column: pd.Series, name: str = "lactate") -> pd.Series:
    """The column after ingestion, disclosure control and restoring."""
    table = patients(len(column)).assign(**{name: column})
    schema, canonical_table = disclose(ingest(table, settings_for(table)), 10)
    return restore(canonical_table, schema)[name]


UNUSUAL = {
    "float class": ("died", pd.Series([0.0, 1.0] * 300)),
    "float category": ("région", pd.Series([0.1, 1.5] * 300)),
    "float32 category": ("région", pd.Series([0.1, 1.5] * 300, dtype="float32")),
    "whole numbers beyond 2^53 as category": ("région", pd.Series([1e20, 2e20] * 300)),
    "whole floats": ("age", pd.Series([float(number % 90) for number in range(600)])),
    "tiny numbers": ("lactate", pd.Series([(number % 99) * 1e-12 for number in range(600)])),
    "large cents": ("lactate", pd.Series([1e9 + (number % 99) / 100 for number in range(600)])),
    "float32 decimals": ("lactate", pd.Series([(number % 99) / 10 for number in range(600)], dtype="float32")),
    "zoned times": ("admitted", pd.Series(pd.date_range("2021-03-01", periods=600, freq="h", tz="Europe/Stockholm"))),
    "zoned days": ("admitted", pd.Series(pd.date_range("2021-03-01", periods=600, tz="UTC"))),
    "before 1970": ("admitted", pd.Series(pd.date_range("1931-03-01", periods=600, freq="7h", unit="s"))),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_column_comes_back_with_its_type_and_values(name: str) -> None:
    column, values = UNUSUAL[name]
    pd.testing.assert_series_equal(through(values, column), values, check_names=False)


def test_a_sensitive_value_that_was_missing_comes_back_missing() -> None:
    back = through(pd.Series([1.0, 2.0, np.nan] * 200), "région")
    assert back.tolist() == [1, 2, pd.NA] * 200
    assert str(back.dtype) == "Int64"


def test_dates_without_a_time_come_back_as_dates() -> None:
    days = [datetime.date(2021, 1, 1 + number % 28) for number in range(600)]
    back = through(pd.Series(days, dtype="object"), "admitted")
    assert back.tolist() == days


def test_flags_with_gaps_come_back_as_flags_with_gaps() -> None:
    back = through(pd.Series([True, False, None] * 200, dtype="object"), "ventilated")
    assert back.tolist() == [True, False, pd.NA] * 200
    assert str(back.dtype) == "boolean"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.decimals(-1000, 1000, places=3), min_size=1))
def test_canonical_numbers_are_the_numbers_with_nan_for_none(values: list[Decimal | None]) -> None:
    found = canonical(pd.Series(values, dtype="object"), "x", "number")
    assert found.dtype == "float64"
    expected = [np.nan if value is None else float(value) for value in values]
    np.testing.assert_array_equal(found.to_numpy(), expected)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.datetimes(), min_size=1), unit=st.sampled_from(["D", "s"]))
def test_canonical_times_are_whole_units_since_1970(values: list[datetime.datetime], unit: Literal["D", "s"]) -> None:
    found = canonical(pd.Series(values), "x", "date", unit)
    step = {"D": datetime.timedelta(days=1), "s": datetime.timedelta(seconds=1)}[unit]
    assert found.tolist() == [(value - datetime.datetime(1970, 1, 1)) // step for value in values]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_canonical_labels_are_the_text_itself(values: list[str | None]) -> None:
    found = canonical(pd.Series(values, dtype="str"), "x", "category")
    assert [None if pd.isna(label) else label for label in found] == [value or None for value in values]


def test_times_with_different_offsets_are_one_clock() -> None:
    column = pd.Series(["2021-01-01T10:00:00+02:00", "2021-01-01T09:00:00+01:00"])
    assert canonical(column, "x", "date", "s").nunique() == 1


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([[1], [2]]),
        pd.Series([{"a": 1}, {"a": 2}]),
        pd.Series([b"a", b"b"]),
        pd.Series(pd.to_timedelta([1, 2], unit="D")),
        pd.Series([1j, 2j]),
        pd.Series([datetime.time(1), datetime.time(2)]),
        pd.Series(["a", 1], dtype="object"),
        pd.Series([2**70, 1], dtype="object"),
        pd.Series([1.0, -np.inf]),
    ],
    ids=["lists", "structs", "bytes", "durations", "complex", "times of day", "mixed", "huge", "infinite"],
)
def test_what_no_kind_of_column_can_hold_is_refused(values: pd.Series) -> None:
    with pytest.raises(BadInput) as caught:
        plain(values, "odd")
    assert caught.value.field == "odd"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("dtype", "field"),
    [("int99", "schema"), ("object[0]", "schema"), ("int8", "admitted"), ("datetime64[s, Nowhere/Land]", "admitted")],
)
def test_a_foreign_type_that_is_none_or_cannot_hold_the_column_is_refused(dtype: str, field: str) -> None:
    schema, canonical_table = disclose(ingest(patients(), settings_for(patients())), 10)
    foreign = schema.model_dump(mode="json")
    next(entry for entry in foreign["columns"] if entry["name"] == "admitted")["dtype"] = dtype
    with pytest.raises(BadInput) as caught:
        restore(canonical_table, Schema.from_bytes(json.dumps(foreign).encode()))
    assert caught.value.field == field


def test_parquet_columns_are_read_by_their_own_types(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    table = patients(50).set_index("age")
    table["ward"] = table["ward"].astype("string[pyarrow]")
    table["lactate"] = table["lactate"].astype("double[pyarrow]")
    table.to_parquet(path)
    back = read_table(path)
    assert set(back.columns) == {*table.columns, "age"}
    assert str(back["lactate"].dtype) == "float64"
    patients(50).iloc[::2].to_parquet(path)
    assert read_table(path).columns.tolist() == patients(1).columns.tolist()


def test_words_for_missing_and_blank_lines_are_understood_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_text('a,b\n1,NA\n\n,"x\ny"\n', encoding="utf-8")
    back = read_table(path)
    assert back["a"].isna().tolist() == [False, True]
    assert back["b"].isna().tolist() == [True, False]


def test_the_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_text('a,b\n1,"two\nlines"\n3\n', encoding="utf-8")
    with pytest.raises(BadInput, match="line 4 has 1 cells and the header 2"):
        read_table(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_type_that_restore_gives_can_be_streamed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    part = pd.DataFrame(
        {
            "count": pd.Series([1, None], dtype="Int64"),
            "flag": pd.Series([True, None], dtype="boolean"),
            "ward": pd.Series(["a", None], dtype="category"),
            "day": pd.Series([datetime.date(2021, 1, 1), None], dtype="date32[day][pyarrow]"),
            "time": pd.Series(["2021-01-01 10:00", None], dtype="datetime64[us, UTC]"),
        }
    )
    gaps = part.iloc[[1]]
    with TableWriter(path, {}) as writer:
        for piece in (gaps, part, part.assign(ward=pd.Series(["b", "c"], dtype="category"))):
            writer.write(piece)
    back = read_table(path)
    assert back["ward"].dropna().tolist() == ["a", "b", "c"]
    assert back["count"].sum() == 2
    assert back.isna().sum().tolist() == [3, 3, 2, 3, 3]


def test_a_writer_into_a_place_that_is_taken_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(BadInput, match="there already"):
        TableWriter(tmp_path / "rows.csv", {})
    with (
        pytest.raises(Unreachable, match="is a directory"),
        TableWriter(tmp_path / "rows.csv", {}, replaces=True) as writer,
    ):
        writer.write(patients(5))
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match="file exists"), TableWriter(tmp_path / "file" / "rows.csv", {}) as writer:
        writer.write(patients(5))
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "file"}


def test_of_two_runs_to_one_path_the_first_to_end_stays_whole_and_the_other_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"

    def write_both() -> None:
        with TableWriter(path, {}) as last:
            last.write(patients(500))
            with TableWriter(path, {}) as first:
                first.write(patients(300))

    with pytest.raises(BadInput, match="there already"):
        write_both()
    assert len(pd.read_parquet(path)) == 300
    assert [found.name for found in tmp_path.iterdir()] == ["rows.parquet"]
    assert path.stat().st_mode & 0o777 == PUBLIC


def test_a_file_that_cannot_be_put_in_its_place_leaves_the_place_free(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    full = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    with (
        patch.object(Path, "replace", side_effect=full),
        pytest.raises(Unreachable, match="quota"),
        TableWriter(path, {}) as writer,
    ):
        writer.write(patients(5))
    assert not list(tmp_path.iterdir())
    with TableWriter(path, {}) as writer:
        writer.write(patients(5))
    assert len(pd.read_parquet(path)) == 5


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_long_codes_beside_gaps_stay_what_they_are(tmp_path: Path, suffix: str) -> None:
    codes = [39112711000001101, 39112711000001102, 39112711000001107]
    table = patients().assign(ward=pd.array([None, *codes] * 150, dtype="Int64"))
    path = tmp_path / f"rows{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    found = canonical(read_table(path)["ward"], "ward", "category")
    assert set(found.dropna()) == {str(code) for code in codes}
    assert found.isna().sum() == 150
    assert set(canonical(table["ward"].astype("object"), "ward", "category").dropna()) == {str(code) for code in codes}


@pytest.mark.parametrize("gap", [[], [None]])
@pytest.mark.parametrize("codes", [(900000000000207008, 900000000000207009), (10**25, 10**25 + 1)])
def test_codes_in_a_decimal_type_without_places_stay_two(
    tmp_path: Path, codes: tuple[int, ...], gap: list[None]
) -> None:
    values = pa.array([*map(Decimal, codes), *gap] * 600, pa.decimal128(38, 0))[:600]
    rows = pa.Table.from_pandas(patients(600)).append_column("concept", values)
    parquet.write_table(rows, tmp_path / "rows.parquet")
    found = read_table(tmp_path / "rows.parquet")["concept"]
    for gaps in (False, True):
        labels = canonical(found, "concept", "category", gaps=gaps)
        assert set(labels.dropna()) == set(map(str, codes))
        assert labels.isna().sum() == values.null_count


def test_amounts_in_a_decimal_type_without_places_come_back_as_whole_numbers() -> None:
    back = through(pd.Series([Decimal(number % 90) for number in range(600)], dtype="object"), "age")
    assert back.tolist() == [number % 90 for number in range(600)]
    assert str(back.dtype) == "int64"


@pytest.mark.parametrize(("dtype", "bounds"), [("uint8", (-20.0, 150.0)), ("int8", (-200.0, 200.0))])
def test_bounds_beyond_an_integer_type_come_back_in_a_wider_one(dtype: str, bounds: tuple[float, float]) -> None:
    table = patients()
    table["age"] = (table["age"] % 90).astype(dtype)
    found = settings_for(table)
    found.columns["age"] = found.columns["age"].model_copy(update={"bounds": bounds})
    schema, canonical_table = disclose(ingest(table, found), 10)
    canonical_table.loc[0, "age"], canonical_table.loc[1, "age"] = bounds
    back = restore(canonical_table, schema)["age"]
    assert (back[0], back[1]) == bounds
    narrow = next(column for column in schema.columns if column.name == "age").model_copy(update={"dtype": dtype})
    with pytest.raises(BadInput, match="cannot be given back"):
        restore_column(canonical_table["age"], narrow)


def test_categories_keep_their_codes_from_block_to_block(tmp_path: Path) -> None:
    labels = [f"ward {number}" for number in range(300)]
    column = CategoricalColumn(
        name="ward",
        kind="category",
        dtype="category",
        role=ColumnRole.FEATURE,
        optional=False,
        categories=tuple(labels),
    )
    with TableWriter(tmp_path / "rows.parquet", {}) as writer:
        for block in (labels[:3], labels):
            writer.write(pd.DataFrame({"ward": restore_column(pd.Series(block, dtype="str"), column)}))
    assert pd.read_parquet(tmp_path / "rows.parquet")["ward"].tolist() == labels[:3] + labels


def test_codes_of_64_bits_without_a_sign_are_given_back() -> None:
    table = patients().assign(ward=pd.Series([2**63 + 5, 2**63 + 6] * 300, dtype="uint64"))
    found = settings_for(table)
    found.columns["ward"] = ColumnSettings(kind="category")
    schema, canonical_table = disclose(ingest(table, found), 10)
    pd.testing.assert_series_equal(restore(canonical_table, schema)["ward"], table["ward"])


def test_a_label_is_called_the_same_whatever_else_is_in_its_part_of_the_table(tmp_path: Path) -> None:
    values = pd.Series([0.5, 1.0, 2.0, np.nan] * 150)
    labels = canonical(values, "ward", "category")
    assert labels.dropna().unique().tolist() == ["0.5", "1", "2"]
    part = values[values != 0.5]
    assert canonical(part, "ward", "category").equals(labels[part.index])
    table = patients().assign(région=values.fillna(0.5))
    schema, disclosed = disclose(ingest(table, settings_for(table)), 10)
    whole = disclosed[disclosed["région"] != "0.5"].reset_index(drop=True)
    for name in ("rows.csv", "rows.parquet"):
        with TableWriter(tmp_path / name, {}) as writer:
            writer.write(restore(whole, schema))
        assert conform(schema, read_table(tmp_path / name))["région"].equals(whole["région"])


def test_a_column_name_that_repeats_in_parquet_is_named(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_arrays([[1], [2]], names=["age", "age"]), tmp_path / "twice.parquet")
    with pytest.raises(BadInput, match="the column name repeats") as caught:
        read_table(tmp_path / "twice.parquet")
    assert caught.value.field == "age"


def test_a_number_that_no_model_holds_is_refused_by_its_column() -> None:
    schema, table = disclose(ingest(patients(), settings_for(patients())), 10)
    with pytest.raises(BadInput, match="beyond 1e") as caught:
        conform(schema, restore(table, schema).assign(lactate=1e300))
    assert caught.value.field == "lactate"


def test_who_may_not_change_a_schema_is_told_what_it_asks_for() -> None:
    schema, table = disclose(ingest(patients(), settings_for(patients())), 10)
    with pytest.raises(BadInput, match="numbers and other text are mixed") as caught:
        conform(schema, restore(table, schema).assign(lactate="low"))
    assert (caught.value.field, "kind =" in caught.value.remedy) == ("lactate", False)
    assert "number" in caught.value.remedy


def test_every_column_that_a_schema_has_no_place_for_is_named_at_once() -> None:
    table = patients().assign(died=lambda rows: rows["died"].astype("Int64"))
    schema, _ = disclose(ingest(table, settings_for(table)), 10)
    odd = table.drop(columns="age").assign(lactate="low", died=table["died"].mask(table.index == 3))
    with pytest.raises(BadInput) as caught:
        conform(schema, odd)
    assert caught.value.field == "age, lactate, died"
    assert "age: the table lacks this column; lactate: numbers" in caught.value.problem
    assert "died: has gaps" in caught.value.problem
    assert "lactate: the schema says number" in caught.value.remedy


def test_a_gap_in_a_category_is_of_the_merged_ones_or_refused_before_anything_is_fitted() -> None:
    table = patients().assign(ward=lambda rows: rows["ward"].fillna("surgery"))
    gap = table.assign(ward=table["ward"].mask(table.index == 3))
    schema, _ = disclose(ingest(table, settings_for(table)), 10)
    with pytest.raises(BadInput, match="has gaps") as caught:
        conform(schema, gap)
    assert caught.value.field == "ward"
    rare = table.assign(ward=table["ward"].mask(table.index < 12, "maternity").mask(table.index < 6, "hospice"))
    merging, _ = disclose(ingest(rare, settings_for(rare)), 10)
    assert conform(merging, gap)["ward"][3] == MERGED


def test_no_text_is_a_gap() -> None:
    assert canonical(pd.Series(["a", "", None], dtype="str"), "ward", "category").isna().tolist() == [False, True, True]


def test_a_category_of_single_precision_is_called_as_a_file_of_text_has_it(tmp_path: Path) -> None:
    doses = pd.Series([0.1, 2.0, np.nan, 1e17, 123456.79], dtype="float32", name="dose")
    found = canonical(doses, "dose", "category")
    assert found.dropna().tolist() == ["0.1", "2", "1e+17", "123456.79"]
    with TableWriter(tmp_path / "doses.csv", {}) as writer:
        writer.write(doses.to_frame().assign(beside=1))
    pd.testing.assert_series_equal(canonical(read_table(tmp_path / "doses.csv")["dose"], "dose", "category"), found)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_name_that_is_not_utf8_names_the_same_file_to_whoever_writes_and_reads(tmp_path: Path, suffix: str) -> None:
    """So is every name beyond ASCII where the locale is Latin-1."""
    path = tmp_path / os.fsdecode(b"st\xfcdy") / f"rows{suffix}"
    with TableWriter(path, {}) as writer:
        writer.write(patients(50))
    assert [os.fsencode(found.name) for found in tmp_path.iterdir()] == [b"st\xfcdy"]
    assert read_table(path)["age"].tolist() == patients(50)["age"].tolist()


@pytest.mark.parametrize("name", ["rows.csv", "stdin"])
def test_a_pipe_is_called_one_and_not_an_empty_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    held = os.open(tmp_path / name, os.O_RDWR)  # or to open it would wait for who writes
    try:
        with pytest.raises(BadInput, match="is a pipe or a device, not a file") as caught:
            read_table(tmp_path / name)
    finally:
        os.close(held)
    assert caught.value.remedy == "save it as a file first"


def test_as_many_columns_as_the_limit_are_taken_and_no_more() -> None:
    names = [f"c{number}" for number in range(LIMITS.columns + 1)]
    check_names(names[:-1])
    with pytest.raises(BadInput, match="more columns than the limit"):
        check_names(names)
