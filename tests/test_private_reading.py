"""What a budget's sensitivity of one rests on: each record of a CSV is read by itself."""

import csv
import unicodedata
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_owner.privacy import private_marginals
from data_owner.records.ingest import read
from data_owner.records.source import as_parquet
from data_owner.records.undeclared import in_words, undeclared
from data_owner.settings import ColumnSettings, OwnerSettings, Policy, PrivacySettings
from shared.table import read_table

VISITS = (
    ["patient", "smoker", "ward", "age", "admitted", "sex", "died"],
    ["00017", "TRUE", "01", "40", "2021-03-04", "f", "0"],
    ["17", "FALSE", "2", "52.0", "9999-12-31", "m", "1"],
    ["", "True", "3.0", "", "2021-03-04T23:30:00-05:00", "", "no"],
    ["5", "", "1", "007", "", "f", "1"],
)
SAID = {
    "smoker": {"kind": "boolean", "categories": ("True", "False")},
    "ward": {"kind": "category", "categories": ("1", "2", "3")},
    "age": {"kind": "integer", "bounds": (0.0, 100.0)},
    "admitted": {"kind": "date", "bounds": (date(2020, 1, 1), date(2030, 1, 1))},
    "sex": {"kind": "category", "role": "sensitive", "categories": ("f", "m")},
    "died": {"kind": "category", "role": "target", "categories": ("0", "1")},
    "patient": {"kind": "exclude"},
}
ODD_CELLS = (
    *("", "unknown", "ER", "A1600", "1e400", "inf", "NA", "1.5", "0001", "yes", "TRUE"),
    *("18446744073709551616", "2020-01-01T00:00:00.123456789", "1066-10-14"),
)
ODD = st.sampled_from(ODD_CELLS) | st.text("aA0 .-:é", max_size=8)


@settings(max_examples=60, deadline=None)
@given(odd=st.lists(ODD, min_size=len(SAID), max_size=len(SAID)))
def test_no_cell_of_a_csv_decides_how_another_person_is_read(
    tmp_path_factory: pytest.TempPathFactory, odd: list[str]
) -> None:
    found = OwnerSettings(
        name="hospital",
        source="visits.csv",
        positive="1",
        policy=Policy(),
        privacy=PrivacySettings(epsilon=1.0, person="patient", rows_per_person=1),
        columns={name: ColumnSettings(**SAID[name]) for name in VISITS[0]},
    )
    assert found.privacy is not None
    parts = []
    for rows in (VISITS, (*VISITS, odd)):
        path = tmp_path_factory.mktemp("visits") / "visits.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        table = read_table(path, text="all")
        kept = private_marginals.of_each_person(table, found.privacy)
        parts.append((read(table, found, as_declared=True), set(kept["patient"])))
    (records, people), (more, people_with_odd) = parts
    assert more.columns == records.columns
    assert more.frame.loc[records.frame.index].equals(records.frame)
    assert people <= people_with_odd
    assert len(people_with_odd - people) <= 1
    assert records.frame["smoker"].tolist()[:2] == ["True", "False"]
    assert records.frame["ward"].tolist() == ["1", "2", "1"]
    assert records.frame["age"].tolist() == [40.0, 52.0, 7.0]
    assert records.frame["admitted"].tolist()[:2] == [18690.0, 21915.0]


def with_an_odd_column(kind: str, said: dict[str, object]) -> OwnerSettings:
    columns = {"odd": ColumnSettings(kind=kind, **said)}  # type: ignore[arg-type]
    return OwnerSettings(
        name="hospital",
        source="visits.parquet",
        positive="1",
        policy=Policy(),
        privacy=PrivacySettings(epsilon=1.0),
        columns=columns | {name: ColumnSettings(**SAID[name]) for name in ("sex", "died")},
    )


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DAYS = {"bounds": (date(1970, 1, 1), date(1970, 1, 9))}


@pytest.mark.parametrize(
    ("arrow", "kind", "said"),
    [
        *((arrow, kind, {"bounds": (0.0, 9.0)}) for arrow in (*INTEGERS, "bool") for kind in ("integer", "number")),
        *((arrow, kind, {"categories": ("0", "1")}) for arrow in INTEGERS for kind in ("category", "boolean")),
        *(("bool", kind, {"categories": ("False", "True")}) for kind in ("category", "boolean")),
        ("date32", "date", DAYS),
        ("timestamp[us]", "date", DAYS),
    ],
)
def test_no_gap_of_a_parquet_column_decides_its_type(
    arrow: str, kind: str, said: dict[str, object], tmp_path: Path
) -> None:
    """Nor does the only value of a column. pandas makes floats of whole numbers beside a gap."""
    found = with_an_odd_column(kind, said)
    records = []
    for cells in ([1, 0, 1, 0], [1, 0, 1, None], [1, None, None, None], [None] * 4):
        whole = pa.array(cells, "int64" if arrow.startswith("timestamp") else "int32")
        odd = whole.cast(arrow)
        parquet.write_table(
            pa.table({"odd": odd, "sex": ["f", "m", "f", "m"], "died": ["0", "1", "0", "1"]}),
            tmp_path / "visits.parquet",
        )
        records.append(read(read_table(tmp_path / "visits.parquet"), found, as_declared=True))
    assert len({each.columns for each in records}) == 1
    for each in records[1:]:
        kept = each.frame["odd"].notna()
        assert each.frame.loc[kept, "odd"].tolist() == records[0].frame.loc[kept, "odd"].tolist()


@pytest.mark.parametrize(
    ("kind", "said", "cell"),
    [
        ("category", {"categories": ("0", "1")}, "1"),
        ("boolean", {"categories": ("0", "1")}, "1"),
        ("date", DAYS, "1970-01-02"),
        ("number", {"bounds": (0.0, 9.0)}, "1"),
    ],
)
def test_no_value_of_a_parquet_dictionary_decides_its_type(
    kind: str, said: dict[str, object], cell: str, tmp_path: Path
) -> None:
    """Where nobody has a value the dictionary is empty, and pandas forgets that it is one of text."""
    found = with_an_odd_column(kind, said)
    columns = []
    for cells in ([None] * 4, [cell, None, None, None], [cell] * 4):
        odd = pa.array(cells, pa.string()).dictionary_encode()
        table = pa.table({"odd": odd, "sex": ["f", "m", "f", "m"], "died": ["0", "1", "0", "1"]})
        parquet.write_table(table, tmp_path / "visits.parquet")
        (tmp_path / "records.parquet").write_bytes(as_parquet(read_table(tmp_path / "visits.parquet")))
        columns.append(read(read_table(tmp_path / "records.parquet"), found, as_declared=True).columns)
    assert columns[0] == columns[1] == columns[2]


def test_a_person_is_one_however_her_id_is_spaced(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_text('patient,age\nP12,40\nP12 ,41\np12,42\n\u00a0P\uff11\uff12,43\nP13,44\n" ",45\n', encoding="utf-8")
    once = PrivacySettings(epsilon=1.0, person="patient", rows_per_person=1)
    assert private_marginals.of_each_person(read_table(path, text="all"), once)["age"].tolist() == ["40", "44"]


# a dotless i has the capital of another letter
LETTERS = st.characters(exclude_categories=["Cc", "Cf", "Cs"], exclude_characters=["ı", *private_marginals.UNSEEN])


@settings(deadline=None)
@given(
    spelt=st.text(LETTERS, max_size=4),
    unseen=st.sampled_from("\u200b\u200d\ufeff\u00ad\ufe0f\u034f\u3164\u2800\u180b\u0000\u007f"),
)
@example("\u03b0", "\u200b")
def test_a_person_is_one_in_whichever_case_and_unicode_form_her_id_is_written(spelt: str, unseen: str) -> None:
    forms = [unicodedata.normalize(form, f"P{spelt}") for form in ("NFC", "NFD", "NFKC", "NFKD")]
    spellings = [cased for form in forms for cased in (form, form.lower(), form.casefold(), form.upper())]
    spellings += [unseen.join(("", *form, "")) for form in forms]
    table = pd.DataFrame({"patient": spellings})
    once = PrivacySettings(epsilon=1.0, person="patient", rows_per_person=1)
    assert len(private_marginals.of_each_person(table, once)) == 1


@pytest.mark.parametrize("ids", [[1, 1, 2], [1.0, 1.0, 2.0], [0.0, -0.0, 2.0]])
def test_a_person_is_one_whatever_the_type_of_her_id(ids: list[float]) -> None:
    table = pd.DataFrame({"patient": ids, "age": [40, 41, 42]})
    for dtype in (table["patient"].dtype, "category"):
        once = PrivacySettings(epsilon=1.0, person="patient", rows_per_person=1)
        assert private_marginals.of_each_person(table.astype({"patient": dtype}), once)["age"].tolist() == [40, 42]


def visits(copies: int) -> tuple[pd.DataFrame, OwnerSettings]:
    found = OwnerSettings(
        name="hospital",
        source="visits.csv",
        positive="1",
        policy=Policy(minimum_count=10),
        privacy=PrivacySettings(epsilon=1.0, person="patient"),
        columns={name: ColumnSettings(**SAID[name]) for name in VISITS[0]},
    )
    table = pd.DataFrame(VISITS[1:] * copies, columns=VISITS[0]).replace("", None)
    return table, found


def test_cells_that_owner_toml_does_not_declare_are_shown_to_the_owner() -> None:
    table, found = visits(20)
    table = table.assign(sex=["F", "M", "f", None] * 20, ward=["1", "02", "4", "x"] * 20)
    said = {"ward": "some", "admitted": "some", "sex": "most", "died": "some"}
    assert undeclared(table, found) == said
    assert "some of ward, some of admitted, most of sex, some of died;" in in_words(undeclared(table, found))
    assert "from public knowledge" in in_words(undeclared(table, found))


def test_of_a_few_cells_that_owner_toml_does_not_declare_nothing_is_said() -> None:
    """Else a bound that follows them would publish the one person beyond it."""
    table, found = visits(100)
    within = table.assign(admitted="2021-03-04", died="0")
    for outside in (0, 1, 15):
        assert undeclared(within.assign(age=["101"] * outside + ["40"] * (400 - outside)), found) == {}
    assert undeclared(within.assign(age=["101"] * 9 + [None] * 391), found) == {}, "fewer than the minimum count"
