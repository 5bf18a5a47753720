"""What a budget's sensitivity of one rests on: each record of a CSV is read by itself."""

import csv
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner.privacy import private_marginals
from data_owner.records.ingest import read
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
