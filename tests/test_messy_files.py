"""Files as hospitals export them: codes that look like numbers, numbers that look like text, clocks with zones."""

import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from consumer.reading import read_rows
from data_owner import steps
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.preconditions import check_name
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from data_owner.settings import ColumnSettings
from shared.canonical import canonical, plain, restore
from shared.conform import conform
from shared.errors import BadInput, PolicyRefusal
from shared.limits import LIMITS
from shared.schema import LARGEST, NumericColumn, Schema
from shared.table import TableWriter, read_table
from tests.conftest import patients, settings_for


def stays(path: Path, **columns: list[str]) -> Path:
    """The patients' CSV with more columns, whose cells are repeated as they are written."""
    rows = patients()
    extra = {name: (cells * len(rows))[: len(rows)] for name, cells in columns.items()}
    rows.assign(**extra).to_csv(path, index=False)
    return path


def come_back(table: pd.DataFrame, **kinds: str) -> tuple[Schema, pd.DataFrame, pd.DataFrame]:
    """The schema, canonical records and what they are restored to, with some kinds set by hand."""
    settings = settings_for(table)
    for name, kind in kinds.items():
        settings.columns[name] = ColumnSettings.model_validate({"kind": kind})
    schema, canonical = disclose(ingest(table, settings), 10)
    return schema, canonical, restore(canonical, schema)


PLACES = ["01069", "04109", "80331"]
DRG = ["1E05", "2E10", "3E02", "004"]


def test_codes_that_look_like_numbers_come_back_as_they_were_written(tmp_path: Path) -> None:
    cells = {"plz": PLACES, "drg": DRG, "icd": ["038.9", "410.1", ""], "ops": ["1E05", "2E10", "NA", "301"]}
    table = read_table(stays(tmp_path / "stays.csv", **cells))
    assert {settings_for(table).columns[name].kind for name in cells} == {"category"}
    schema, canonical, back = come_back(table)
    for name, written in cells.items():
        assert set(back[name].dropna()) == set(written) - {"", "NA"}
    with TableWriter(tmp_path / "synthetic.csv", {}) as writer:
        writer.write(back)
    audited = conform(schema, read_rows(tmp_path / "synthetic.csv", schema).table)
    pd.testing.assert_frame_equal(audited, canonical, check_dtype=False)


def test_a_node_keeps_codes_as_text_so_that_owner_toml_can_make_of_them_what_they_are(tmp_path: Path) -> None:
    path = stays(tmp_path / "stays.csv", plz=PLACES, week=["01", "02", "13"])
    steps.init(tmp_path / "hospital", data=path, target="died", sensitive=("région",), positive="1")
    records = read_table(Node(tmp_path / "hospital").records)
    assert set(records["plz"]) == set(PLACES)
    _, _, back = come_back(records, week="integer")
    assert set(back["week"]) == {1, 2, 13}


@pytest.mark.parametrize(
    "cells",
    [
        ["1.5e-3", "2e5", "0.5"],
        ["1e+05", "2e+10"],
        ["2e5", "3e6", "100"],
        ["1.5", "1e10"],
        ["-1", "1E05"],
        ["0", "0.25", "10", "100"],
        ["", "7"],
    ],
    ids=" ".join,
)
def test_measurements_stay_numbers_however_they_are_written(cells: list[str], tmp_path: Path) -> None:
    found = read_table(stays(tmp_path / "stays.csv", value=cells))["value"]
    assert pd.api.types.is_numeric_dtype(found)
    assert set(found.dropna()) == {float(cell) for cell in cells if cell}


def test_what_else_a_file_holds_does_not_make_codes_of_numbers(tmp_path: Path) -> None:
    plain = read_table(stays(tmp_path / "plain.csv", note=["none"]))
    with_codes = read_table(stays(tmp_path / "codes.csv", note=["007"]))
    pd.testing.assert_frame_equal(plain.drop(columns="note"), with_codes.drop(columns="note"))


def test_a_code_of_many_values_waits_for_a_person(tmp_path: Path) -> None:
    table = read_table(stays(tmp_path / "stays.csv", ward=[f"0{number}" for number in range(1000, 1200)]))
    entry = settings_for(table).columns["ward"]
    assert entry.kind == "undecided"
    assert "looks like a code" in entry.reason


@pytest.mark.parametrize(
    "cells", [["1234567890123456789012", "1234567890123456789013"], ["1234567890123456789012", ""]]
)
def test_a_column_of_numbers_that_no_type_holds_refuses_no_file(cells: list[str], tmp_path: Path) -> None:
    table = read_table(stays(tmp_path / "stays.csv", serial=cells))
    assert settings_for(table).columns["serial"].kind == "undecided"
    schema, _, back = come_back(table, serial="category")
    assert set(back["serial"].dropna()) == set(cells) - {""}
    assert set(schema.names) == set(table.columns)


HUNDREDTHS = [f"{number / 100:.2f}" for number in range(5, 90)]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([number.replace(".", ",") for number in HUNDREDTHS], "decimal point"),
        (["<0.01", "<0.05", ">= 9", *HUNDREDTHS], "such as the limit"),
        ([f"{number} %" for number in range(40)], "write the number alone"),
        ([f"<{number},5%" for number in range(40)], "decimal point, .* such as the limit; .* number alone"),
        ([f"1,{number}" for number in range(200, 300)], "nothing between thousands"),
        ([f"{number % 24:02d}:{number % 60:02d}" for number in range(90)], "minutes since midnight"),
        ([f"{number % 24}:15:{number % 60:02d}" for number in range(90)], "minutes since midnight"),
        (["unknown", *(f"1,{number}" for number in range(20, 90))], "decimal point"),
    ],
)
def test_amounts_and_times_that_are_written_as_no_number_is_wait_for_a_person(cells: list[str], said: str) -> None:
    for repeated in (cells, cells[:15]):
        table = patients().assign(value=(repeated * 600)[:600])
        entry = settings_for(table).columns["value"]
        assert entry.kind == "undecided"
        assert re.search(said, entry.reason)
        assert not any(cell in entry.reason for cell in cells)


@pytest.mark.parametrize(
    "labels",
    [
        ["<18", "18-64", ">64"],
        ["<18", ">18"],
        ["0,5", "1,0", "2,5"],
        ["08:00", "20:00"],
        ["5%", "10%"],
        [f"{number}-{number + 4}" for number in range(0, 90, 5)],
        [f"grade {number}, stage {number}" for number in range(12)],
    ],
)
def test_a_few_labels_with_signs_and_bands_are_categories(labels: list[str]) -> None:
    table = patients().assign(band=(labels * 600)[:600])
    assert settings_for(table).columns["band"].kind == "category"


@pytest.mark.parametrize("mark", [".", "-", "?", "ND", "unknown"])
@pytest.mark.parametrize("every", [3, 8])
def test_measurements_and_dates_beside_marks_for_gaps_wait_for_a_person(mark: str, every: int) -> None:
    amounts = [mark if row % every == 0 else f"{1 + row % 59 / 10:.1f}" for row in range(600)]
    days = [mark if row % every == 0 else f"19{30 + row % 60}-0{1 + row % 9}-11" for row in range(600)]
    columns = settings_for(patients().assign(creatinine=amounts, seen=days, birthday=days)).columns
    assert {columns[name].kind for name in ("creatinine", "seen", "birthday")} == {"undecided"}
    assert "empty the cells that are no number (with a budget leave them" in columns["creatinine"].reason
    assert "empty the cells that are no date (with a budget leave them" in columns["seen"].reason
    assert "give an age" in columns["birthday"].reason


@pytest.mark.parametrize(
    "labels",
    [
        ["038.9", *["unknown"] * 6, *(f"{number}.1" for number in range(410, 440))],
        ["unknown", *map(str, range(1, 8))],
        [f"{number}{letter}" for number in range(1, 12) for letter in ("", "A")],
    ],
    ids=["codes", "grades", "rooms"],
)
def test_codes_and_grades_beside_text_are_categories(labels: list[str]) -> None:
    table = patients().assign(code=(labels * 600)[:600])
    assert settings_for(table).columns["code"].kind == "category"


@pytest.mark.parametrize("kind", ["int64", "str", "float64"])
@pytest.mark.parametrize(("name", "said"), [("admission", "write 2020-01-24"), ("geburtsdatum", "give an age")])
def test_dates_without_dashes_wait_for_a_person(name: str, said: str, kind: str) -> None:
    days = pd.Series([19_300_100 + 10_000 * (row % 60) + row % 28 + 1 for row in range(600)])
    days[0] = 19_999_999
    entry = settings_for(patients().assign(**{name: days.astype(kind)})).columns[name]
    assert entry.kind == "undecided"
    assert said in entry.reason


def test_whole_numbers_of_eight_digits_that_are_no_days_stay_numbers() -> None:
    counts = pd.Series([20_000_000 + 7919 * (row % 300) for row in range(600)])
    assert settings_for(patients().assign(count=counts)).columns["count"].kind == "integer"


HOURS = [f"2022-01-{1 + number % 28:02d}T{number % 24:02d}:00:00" for number in range(100)]


@pytest.mark.parametrize("zone", ["+01:00", "-0530", "Z", "+02"])
def test_times_with_a_zone_come_back_with_one_as_the_same_moments(zone: str, tmp_path: Path) -> None:
    cells = [hour + zone for hour in HOURS]
    table = read_table(stays(tmp_path / "stays.csv", seen=["", *cells[1:]]))
    assert settings_for(table).columns["seen"].kind == "date"
    schema, canonical, back = come_back(table)
    moments = pd.to_datetime(table["seen"], utc=True, format="ISO8601")
    assert back["seen"].dropna().tolist() == moments.dropna().tolist()
    with TableWriter(tmp_path / "synthetic.csv", {}) as writer:
        writer.write(back)
    written = read_rows(tmp_path / "synthetic.csv", schema).table
    assert written["seen"].dropna().str.endswith("Z").all()
    pd.testing.assert_frame_equal(conform(schema, written), canonical, check_dtype=False)


def test_times_without_a_zone_get_none() -> None:
    _, _, back = come_back(patients().assign(seen=(HOURS * 6)[:600]))
    assert set(back["seen"]) == set(HOURS)


def test_times_of_which_only_some_say_their_zone_wait_for_a_person() -> None:
    mixed = [hour + ("Z" if number % 3 else "") for number, hour in enumerate(HOURS)]
    entry = settings_for(patients().assign(seen=mixed * 6)).columns["seen"]
    assert (entry.kind, "zone" in entry.reason) == ("undecided", True)


def test_bytes_that_are_no_picture_are_said_to_be_bytes_and_to_be_left_out(tmp_path: Path) -> None:
    patients().assign(raw=[b"zq7secret"] * 600).to_parquet(tmp_path / "stays.parquet")
    with pytest.raises(BadInput, match="holds bytes") as caught:
        settings_for(read_table(tmp_path / "stays.parquet"))
    assert caught.value.field == "raw"
    assert "leave the column out" in caught.value.remedy
    assert "zq7secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("plz;lactate\n01069;0,67\n", "decimal points, not commas"),
        ("Stays in 2022\n\nplz,lactate,died\n01069,0.67,0\n", "header: it must be the first line"),
        ("Stays, all wards\nplz,lactate,died\n01069,0.67,0\n", "header: it must be the first line"),
    ],
)
def test_a_file_saved_for_people_is_refused_with_how_to_save_it(text: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "stays.csv").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        read_table(tmp_path / "stays.csv")
    assert remedy in caught.value.remedy


PACKED = {
    "cells": ({"table_cells": 40_000}, np.zeros(40_000)),
    "numbers": ({"table_bytes": 200_000}, np.random.default_rng(0).permutation(np.arange(40_000.0))),
    "text": ({"table_bytes": 1_900_000}, ["long " * 20, None] * 20_000),
    "bytes": ({"table_bytes": 1_900_000}, [b"long " * 20, None] * 20_000),
    "categories": ({"table_bytes": 1_900_000}, pd.Categorical(["long " * 20, None] * 20_000)),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_small_parquet_file_that_unpacks_to_more_than_the_limit_is_refused_before_it_is_read(
    name: str, tmp_path: Path
) -> None:
    limits, values = PACKED[name]
    path = tmp_path / "packed.parquet"
    pd.DataFrame({"x": values, "y": 0}).to_parquet(path, compression="zstd", row_group_size=9_000)
    assert path.stat().st_size < 200_000
    with (
        patch("shared.table.LIMITS", replace(LIMITS, **limits)),
        patch("shared.table.parquet.read_table", side_effect=AssertionError),
        pytest.raises(BadInput, match="more memory") as caught,
    ):
        read_table(path)
    assert "sample" in caught.value.remedy
    with patch("shared.table.LIMITS", replace(LIMITS, table_cells=80_000, table_bytes=2_100_000)):
        assert read_table(path).shape == (40_000, 2)


def test_what_a_category_of_numbers_takes_is_no_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"level": pd.Categorical([1, 2]), "none": [None, None]})
    table.to_parquet(tmp_path / "odd.parquet")
    assert read_table(tmp_path / "odd.parquet").columns.tolist() == list(table.columns)


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.struct([("name", pa.string())])], ids=str)
def test_columns_of_several_values_are_refused_before_they_are_read(kind: pa.DataType, tmp_path: Path) -> None:
    """One value that every row repeats takes next to nothing in the file, and its size times the rows in memory."""
    parquet.write_table(pa.table({"names": pa.nulls(2, kind)}), tmp_path / "odd.parquet")
    with pytest.raises(BadInput, match="holds several values") as refused:
        read_table(tmp_path / "odd.parquet")
    assert refused.value.field == "names"


def test_bytes_of_one_length_count_for_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = pa.array([b"x" * 10_000] * 100, pa.binary(10_000))
    parquet.write_table(pa.table({"photo": repeated}), tmp_path / "odd.parquet")
    monkeypatch.setattr("shared.table.LIMITS", replace(LIMITS, table_bytes=500_000))
    with pytest.raises(BadInput, match="more memory than the limit"):
        read_table(tmp_path / "odd.parquet")


def test_bounds_farther_out_than_a_schema_s_numbers_are_refused() -> None:
    table = patients().assign(ratio=np.linspace(0.0, 1.0, 600))
    settings = settings_for(table)
    settings.columns["ratio"] = ColumnSettings(kind="number", bounds=(0.0, LARGEST))
    found = {column.name: column for column in disclose(ingest(table, settings), 10)[0].columns}["ratio"]
    assert isinstance(found, NumericColumn)
    assert found.quantiles.values[-1] == LARGEST
    settings.columns["ratio"] = ColumnSettings(kind="number", bounds=(0.0, 1e38))
    with pytest.raises(BadInput, match="bounds are not within") as caught:
        ingest(table, settings)
    assert caught.value.field == "ratio"


def test_every_undecided_column_is_named_with_its_reason() -> None:
    table = patients().assign(seen=[f"{number % 24}:{number % 60:02d}" for number in range(600)], nothing=np.nan)
    with pytest.raises(PolicyRefusal) as caught:
        ingest(table, settings_for(table))
    assert caught.value.field == "seen, nothing"
    assert re.search("seen: looks like times of day.*; nothing: every value is missing", caught.value.problem)
    assert "owner.toml may be copied" in caught.value.remedy


def test_owner_toml_goes_with_the_corrected_file_to_a_new_node(tmp_path: Path) -> None:
    asked = {"target": "died", "sensitive": ("région",), "positive": "1"}
    commas = [number.replace(".", ",") for number in HUNDREDTHS]
    steps.init(tmp_path / "first", data=stays(tmp_path / "stays.csv", ratio=commas), **asked)
    first, second = Node(tmp_path / "first"), Node(tmp_path / "second")
    decided = first.settings.read_text(encoding="utf-8").replace('kind = "undecided"', 'kind = "number"')
    first.settings.write_text(decided, encoding="utf-8")
    with pytest.raises(BadInput, match="mixed") as caught:
        steps.prepare(first, read_settings(first))
    assert "run init on a new folder" in caught.value.remedy
    steps.init(second.folder, data=stays(tmp_path / "stays.csv", ratio=HUNDREDTHS), **asked)
    second.settings.write_text(decided.replace('name = "first"', 'name = "second"'), encoding="utf-8")
    settings = read_settings(second)
    check_name(second, settings)
    assert "ratio" in steps.prepare(second, settings).schema.names


def test_booleans_beside_gaps_come_back_as_booleans_from_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "flags.csv"
    path.write_text("".join(f"{cell}\n" for cell in ["flag", *["TRUE", "FALSE", '""'] * 50]))
    table = read_table(path)
    assert plain(table["flag"], "flag").dtype == "boolean"
    assert set(canonical(table["flag"], "flag", "boolean").dropna()) == {"True", "False"}
    assert table["flag"].isna().sum() == 50
