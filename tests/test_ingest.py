"""What is taken in, and what is refused: precisely, with a remedy, without a data value, with nothing written."""

from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dateutil import tz
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner import steps
from data_owner.learning import fitting
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.records.disclosure import disclose
from data_owner.records.infer import infer
from data_owner.records.ingest import MergedGroups, ingest
from data_owner.settings import ColumnSettings, OwnerSettings
from shared.canonical import UTC_TIME, canonical, restore, restore_column
from shared.errors import BadInput, Fair4FreeError, PolicyRefusal, Unreachable
from shared.schema import MERGED, MISSING
from shared.table import read_table
from tests.conftest import patients, settings_for

SECRET = "zq7secret"


def csv(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "records.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def raw(data: bytes, name: str = "records.csv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def changed(**columns: object) -> Callable[[Path], Path]:
    """The patients, with some columns replaced."""

    def make(folder: Path) -> Path:
        path = folder / "records.csv"
        patients().assign(**columns).to_csv(path, index=False)
        return path

    return make


def parquet(values: list[object]) -> Callable[[Path], Path]:
    """The patients with one more column, of a type that only Parquet can hold."""

    def make(folder: Path) -> Path:
        path = folder / "records.parquet"
        patients().assign(odd=pd.Series(values * (600 // len(values)), dtype="object")).to_parquet(path)
        return path

    return make


def named_folder(folder: Path) -> Path:
    path = folder / "records.csv"
    path.mkdir()
    return path


BAD_FILES: dict[str, tuple[Callable[[Path], Path], type[Fair4FreeError], str]] = {
    "missing file": (lambda folder: folder / "nowhere.csv", Unreachable, "nowhere.csv"),
    "folder in place of a file": (lambda folder: folder, BadInput, "source"),
    "unknown suffix": (raw(b"a,b\n1,2\n", "records.xls"), BadInput, "records.xls"),
    "folder named as a table": (named_folder, Unreachable, "records.csv"),
    "cells between semicolons": (raw(b"a;b;died\n1;2;0\n"), BadInput, "records.csv"),
    "empty file": (raw(b""), BadInput, "records.csv"),
    "header only": (csv("a,b,died\n"), BadInput, "records.csv"),
    "ragged rows": (csv(f"a,b,died\n1,2,0\n1,{SECRET}\n"), BadInput, "records.csv"),
    "too many cells": (csv(f"a,b,died\n1,2,0,{SECRET}\n"), BadInput, "records.csv"),
    "duplicate columns": (csv("a,a,died\n1,2,0\n"), BadInput, "a"),
    "column without a name": (csv("a,,died\n1,2,0\n"), BadInput, "column 2"),
    "column name too long": (csv(f"{'a' * 300},died\n1,0\n"), BadInput, "column 1"),
    "wrong encoding": (raw("région,died\nÎle,0\n".encode("latin-1")), BadInput, "records.csv"),
    "open quote": (csv('a,died\n"1,0\n'), BadInput, "records.csv"),
    "not Parquet": (raw(SECRET.encode(), "records.parquet"), BadInput, "records.parquet"),
    "lists": (parquet([[SECRET], [SECRET, "b"]]), BadInput, "odd"),
    "bytes": (parquet([SECRET.encode(), b"b"]), BadInput, "odd"),
    "durations": (parquet([pd.Timedelta(days=1), pd.Timedelta(days=2)]), BadInput, "odd"),
    "target missing": (lambda folder: changed()(folder), BadInput, "outcome"),
    "constant target": (changed(died=1), BadInput, "died"),
    "too many classes": (changed(died=[number % 150 for number in range(600)]), BadInput, "died"),
    "target of long text": (changed(died=[SECRET * 40, "alive"] * 300), BadInput, "died"),
    "target with gaps": (changed(died=[0.0, 1.0, np.nan] * 200), BadInput, "died"),
    "one group": (changed(**{"région": SECRET}), BadInput, "région"),
    "small group": (changed(**{"région": ["north", "south"] * 298 + [SECRET] * 4}), PolicyRefusal, "région"),
    "infinity": (changed(lactate=[np.inf, *range(599)]), BadInput, "lactate"),
    "no feature": (csv("région,died\n" + "n,0\ns,1\n" * 60), BadInput, "table"),
    "few rows": (csv("age,région,died\n" + "1,n,0\n2,s,1\n" * 20), BadInput, "table"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_init_refuses_bad_input_precisely_and_writes_nothing(name: str, tmp_path: Path) -> None:
    make, error, field = BAD_FILES[name]
    source, target = tmp_path / "source", tmp_path / "hospital"
    source.mkdir()
    with pytest.raises(error) as caught:
        steps.init(target, data=make(source), target="outcome" if field == "outcome" else "died", sensitive=("région",))
    assert field in caught.value.field
    assert caught.value.remedy
    assert SECRET not in str(caught.value)
    assert not target.exists()


def with_column(name: str, **change: object) -> Callable[[OwnerSettings], OwnerSettings]:
    def edit(settings: OwnerSettings) -> OwnerSettings:
        columns = dict(settings.columns)
        columns[name] = columns[name].model_copy(update=change)
        return settings.model_copy(update={"columns": columns})

    return edit


def same(settings: OwnerSettings) -> OwnerSettings:
    return settings


Edit = Callable[[OwnerSettings], OwnerSettings]

WARDS = ("surgery", "medicine", "intensive care")

BAD_RECORDS: dict[str, tuple[dict[str, object], Edit, type[Fair4FreeError], str]] = {
    "all missing": ({"lactate": np.nan}, same, BadInput, "lactate"),
    "mixed types": ({"lactate": [SECRET, *range(599)]}, same, BadInput, "lactate"),
    "constant feature": ({"ward": "one"}, same, BadInput, "ward"),
    "constant number": ({"age": 4}, same, BadInput, "age"),
    "undeclared category": ({}, with_column("ward", categories=("surgery", "medicine")), BadInput, "ward"),
    "outside bounds": ({}, with_column("age", bounds=(0.0, 30.0)), BadInput, "age"),
    "not whole": ({"age": np.linspace(0, 1, 600)}, same, BadInput, "age"),
    "too many categories": (
        {"ward": [f"{SECRET}{number % 1200}" for number in range(3000)]},
        same,
        BadInput,
        "ward",
    ),
    "long text": ({"ward": ["a" * 300, SECRET] * 300}, same, BadInput, "ward"),
    "bad date": ({"admitted": ["2021-02-31", SECRET] * 300}, same, BadInput, "admitted"),
    "boolean of three": ({"ventilated": ["a", "b", SECRET] * 200}, same, BadInput, "ventilated"),
    "a label for a gap": ({"ward": ["surgery", MISSING] * 300}, same, BadInput, "ward"),
    "a label for what was merged": ({"ward": ["surgery", MERGED] * 300}, same, BadInput, "ward"),
    "vanishing numbers": ({"lactate": np.linspace(1e-19, 1e-18, 600)}, same, BadInput, "lactate"),
    "numbers that blow up": ({"lactate": [0.25, 1e305] * 300}, same, BadInput, "lactate"),
    "numbers of known decimals that blow up": (
        {"lactate": [0.25, 1e305] * 300},
        with_column("lactate", decimals=1),
        BadInput,
        "lactate",
    ),
    "undecided": ({}, with_column("ward", kind="undecided", reason="looks odd"), PolicyRefusal, "ward"),
    "unknown column": ({"surplus": 1}, same, BadInput, "surplus"),
    "absent column": ({"ward": None}, same, BadInput, "ward"),
    "dates as numbers": ({}, with_column("admitted", kind="number"), BadInput, "admitted"),
    "numbers as dates": ({}, with_column("age", kind="date"), BadInput, "age"),
    "text as numbers": ({}, with_column("ward", kind="number"), BadInput, "ward"),
    "keys as amounts": ({"age": [2**60 + i for i in range(600)]}, same, BadInput, "age"),
    "mixed objects": ({"ward": [SECRET, 1] * 300}, same, BadInput, "ward"),
    "infinite category": ({"ward": [np.inf, 1.0] * 300}, same, BadInput, "ward"),
    "category declared twice": ({}, with_column("ward", categories=(*WARDS, "surgery")), BadInput, "ward"),
    "a class declared that nobody has": ({}, with_column("died", categories=("0", "1", "2")), BadInput, "died"),
    "column name not text": ({}, same, BadInput, "column 1"),
    "wrong positive class": ({}, lambda found: found.model_copy(update={"positive": "9"}), BadInput, "positive"),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_ingest_refuses_bad_records_naming_column_and_remedy(name: str) -> None:
    columns, edit, error, field = BAD_RECORDS[name]
    rows = max([600, *(len(value) for value in columns.values() if isinstance(value, list))])
    settings = edit(settings_for(patients()))
    table = patients(rows).assign(**columns)
    if name == "absent column":
        table = table.drop(columns="ward")
    if name == "column name not text":
        table = table.rename(columns={"age": 7})
    with pytest.raises(error) as caught:
        ingest(table, settings)
    assert caught.value.field == field
    assert caught.value.remedy
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("patient_id", pd.Series(range(1000, 1600))),
        ("code", pd.Series([f"{SECRET}-{number}" for number in range(600)], dtype="str")),
        ("remark", pd.Series([f"{'long words ' * 5}{number // 2}" for number in range(600)], dtype="str")),
        ("mostly", pd.Series(["n/a", *map(str, range(599))], dtype="str")),
        ("postcode", pd.Series([f"0{1000 + number % 50}" for number in range(600)], dtype="str")),
        ("zip_code", pd.Series([10000 + number % 150 for number in range(600)])),
        ("PatientID", pd.Series([(number // 2) * 7919 % 100_003 for number in range(600)])),
        ("subject id", pd.Series([(number // 3) * 7919 % 100_003 for number in range(600)])),
        ("case_id", pd.Series([1000 + number // 8 for number in range(600)])),
        ("surname", pd.Series([f"{SECRET}{number % 60}" for number in range(600)], dtype="str")),
        ("journal", pd.Series([number * 7919 % 100_003 for number in range(600)])),
        ("hash", pd.Series([2**60 + number % 7 for number in range(600)])),
        ("seen", pd.Series([f"{1 + number % 28}/3/2021" for number in range(600)], dtype="str")),
        ("date_of_birth", pd.Series([f"19{10 + number % 80}-01-05" for number in range(600)], dtype="str")),
        ("letter", pd.Series(["dear colleague " * 20, "dear doctor " * 20] * 300, dtype="str")),
        ("once", pd.Series([2.5, np.nan] * 300)),
        ("nothing", pd.Series([np.nan] * 600)),
    ],
)
def test_identifiers_free_text_and_mixtures_wait_for_a_person(name: str, values: pd.Series) -> None:
    table = patients().assign(**{name: values.to_numpy()})
    settings = settings_for(table)
    assert settings.columns[name].kind == "undecided"
    assert settings.columns[name].reason
    with pytest.raises(PolicyRefusal) as caught:
        ingest(table, settings)
    assert caught.value.field == name
    excluded = with_column(name, kind="exclude")(settings)
    assert name not in ingest(table, excluded).frame


@pytest.mark.parametrize("name", ["Telephone", "phone", "e-mail", "zip", "street", "postal code", "Home Address"])
def test_what_says_where_a_person_is_reached_waits_for_a_person(name: str) -> None:
    table = patients().assign(**{name: 30_000 + np.arange(600) % 60})
    assert settings_for(table).columns[name].kind == "undecided"


def test_kinds_are_inferred_as_a_person_would() -> None:
    kinds = {name: entry.kind for name, entry in settings_for(patients()).columns.items()}
    assert kinds == {
        "age": "integer",
        "days in ward": "number",
        "lactate": "number",
        "ward": "category",
        "admitted": "date",
        "ventilated": "boolean",
        "région": "category",
        "died": "boolean",
    }


def test_a_frame_without_rows_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the table has no rows"):
        steps.init(tmp_path / "node", data=patients().iloc[:0], target="died", sensitive="région")


def test_numbers_that_a_frame_holds_as_categories_are_categories() -> None:
    grades = np.arange(600) % 4
    table = patients().assign(
        grade=pd.Categorical(grades), dose=pd.Categorical(grades / 2), number=grades, stay=pd.Categorical(range(600))
    )
    columns = settings_for(table).columns
    assert {name: columns[name].kind for name in ("grade", "dose", "number", "stay")} == {
        "grade": "category",
        "dose": "category",
        "number": "integer",
        "stay": "undecided",
    }


def test_the_positive_class_is_the_telling_one_or_else_the_rarer() -> None:
    def positive(labels: list[str]) -> str:
        table = patients().assign(died=labels * (600 // len(labels)))
        return infer(table, name="n", source="s", target="died", sensitive=("région",)).positive

    assert positive(["no", "yes", "yes", "yes"]) == "yes"
    assert positive(["alive", "alive", "dead"]) == "dead"


@pytest.mark.parametrize(
    ("died", "said", "positive"),
    [([True, False], "TRUE", "True"), ([True, False], "true", "True"), ([0, 1], "1.0", "1"), (["n", "y"], "y", "y")],
)
def test_the_positive_class_may_be_written_as_the_file_has_it(died: list[object], said: str, positive: str) -> None:
    table = patients().assign(died=died * 300)
    found = infer(table, name="n", source="s", target="died", sensitive=("région",), positive=said)
    assert found.positive == positive


@pytest.mark.parametrize("flags", ["int64", "bool"])
@pytest.mark.parametrize(("positive", "numbered"), [(1, "1"), (True, "1"), (0, "0"), (np.False_, "0"), ("True", "1")])
def test_the_positive_class_of_flags_is_named_as_a_number_or_a_flag(
    flags: str, positive: int, numbered: str, tmp_path: Path
) -> None:
    table = patients().astype({"died": flags})
    found = steps.init(tmp_path / "node", data=table, target="died", sensitive="région", positive=positive)
    assert found.positive == (numbered if flags == "int64" else str(numbered == "1"))


def test_with_a_budget_the_positive_class_is_as_it_was_named(tmp_path: Path) -> None:
    path = changed(died=["TRUE", "FALSE"] * 300)(tmp_path)
    asked = {"data": path, "target": "died", "sensitive": ("région",)}
    assert steps.init(tmp_path / "bounded", **asked, positive="TRUE", epsilon=1.0).positive == "TRUE"
    assert steps.init(tmp_path / "unbounded", **asked, positive="TRUE").positive == "True"


@pytest.mark.parametrize(("spelt", "found"), [("true", None), ("True", None), ("TRUE", "TRUE")])
def test_with_a_budget_a_positive_class_spelt_otherwise_is_refused_before_a_node_is_made(
    spelt: str, found: str | None, tmp_path: Path
) -> None:
    path = changed(died=["TRUE", "FALSE"] * 300)(tmp_path)
    asked = {"data": path, "target": "died", "sensitive": ("région",), "positive": spelt, "epsilon": 1.0}
    if found:
        assert steps.init(tmp_path / "node", **asked).positive == found
        return
    with pytest.raises(BadInput, match="not a class of the target") as caught:
        steps.init(tmp_path / "node", **asked)
    assert (caught.value.field, caught.value.remedy) == ("--positive", "write it as the file does")
    assert not (tmp_path / "node").exists()


def test_with_a_budget_the_positive_class_of_a_frame_is_spelt_as_it_is_read(tmp_path: Path) -> None:
    frame = patients().assign(died=[True, False] * 300)
    asked = {"data": frame, "target": "died", "sensitive": ("région",), "positive": "TRUE", "epsilon": 1.0}
    assert steps.init(tmp_path / "node", **asked).positive == "True"


def test_a_declared_category_may_be_written_otherwise_in_the_file() -> None:
    table = patients().assign(ventilated=["TRUE", "FALSE", None] * 200, ward=["01", "2", "3.0"] * 200)
    settings = settings_for(table)
    settings.columns["ventilated"] = ColumnSettings(kind="boolean", categories=("False", "True"))
    settings.columns["ward"] = ColumnSettings(kind="category", categories=("1", "2", "3"))
    found = ingest(table, settings).frame
    assert set(found["ventilated"].dropna()) == {"True", "False"}
    assert set(found["ward"]) == {"1", "2", "3"}


def test_small_groups_are_merged_when_the_policy_says_so() -> None:
    table = patients().assign(**{"région": ["north", "south"] * 294 + ["west"] * 6 + ["isle"] * 6})
    found = ingest(table, settings_for(table, small_groups="merge"))
    assert (found.frame["région"] == MERGED).sum() == 12
    assert found.merged == MergedGroups(2, 0.02, (MERGED,))
    assert ingest(patients(), settings_for(patients(), small_groups="merge")).merged is None


def test_merged_and_missing_groups_join_what_the_owner_declared() -> None:
    regions = ["north", "south", None] * 196 + ["west"] * 6 + ["isle"] * 6
    table = patients().assign(**{"région": regions})
    declare = with_column("région", categories=("north", "south", "west", "isle"))
    records = ingest(table, declare(settings_for(table, small_groups="merge")))
    facts = {fact.name: fact for fact in records.columns}
    assert facts["région"].declared_categories == ("north", "south", "west", "isle", MISSING, MERGED)
    schema, _ = disclose(records, 10)
    assert {group.values for group in schema.groups} == {("north",), ("south",), (MISSING,), (MERGED,)}


def test_more_joint_groups_than_the_limit_are_refused() -> None:
    draw = np.random.default_rng(0)
    table = patients(9000).assign(site=draw.integers(0, 9, 9000), shift=draw.integers(0, 9, 9000))
    settings = infer(table, name="n", source="s", target="died", sensitive=("site", "shift"))
    with pytest.raises(BadInput, match="64 groups") as caught:
        ingest(table, settings)
    assert caught.value.field == "site, shift"


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=2, max_size=8), least=st.integers(5, 25))
def test_no_group_that_is_let_in_is_smaller_than_the_policy_allows(sizes: list[int], least: int) -> None:
    regions = [f"region {number}" for number, size in enumerate(sizes) for _ in range(size)] + ["rest", "others"] * 100
    table = patients(len(regions)).assign(**{"région": regions})
    proposed = settings_for(table, small_groups="merge", minimum_count=least)
    groups = ingest(table, proposed).frame["région"].value_counts()
    assert groups.min() >= least
    assert groups.sum() == len(table)


def test_a_small_group_joins_one_of_two_equal_groups_and_not_both() -> None:
    table = patients().assign(**{"région": ["north", "south"] * 297 + ["west"] * 6})
    groups = ingest(table, settings_for(table, small_groups="merge")).frame["région"].value_counts()
    assert sorted(groups) == [297, 303]


def test_too_few_in_small_groups_join_the_next_smallest_which_keeps_its_name() -> None:
    regions = ["north"] * 400 + ["south"] * 195 + ["west"] * 3 + ["isle"] * 2
    found = ingest(patients().assign(**{"région": regions}), settings_for(patients(), small_groups="merge"))
    assert found.frame["région"].value_counts().to_dict() == {"north": 400, "south": 200}
    assert found.merged == MergedGroups(2, 5 / 600, ("south",))
    pairs = patients().assign(**{"région": regions}, night=["no"] * 400 + ["yes"] * 200)
    both = infer(pairs, name="n", source="s", target="died", sensitive=("région", "night"), small_groups="merge")
    joint = ingest(pairs, both).frame[["région", "night"]].value_counts()
    assert joint.to_dict() == {("north", "no"): 400, ("south", "yes"): 200}


def test_a_sensitive_column_is_named_once() -> None:
    with pytest.raises(BadInput, match="twice"):
        infer(patients(), name="n", source="s", target="died", sensitive=("région", "région"))


def test_columns_of_a_frame_that_no_file_can_keep_are_named(tmp_path: Path) -> None:
    table = patients().assign(band=lambda rows: pd.cut(rows["age"], 5), ratio=np.arange(600, dtype="longdouble") / 7)
    with pytest.raises(BadInput) as caught:
        steps.init(tmp_path / "hospital", data=table, target="died", sensitive=("région",))
    assert caught.value.field == "band, ratio"
    assert "band: make numbers or text of it" in caught.value.remedy
    assert not (tmp_path / "hospital").exists()


def test_small_groups_can_be_merged_from_the_start() -> None:
    table = patients().assign(**{"région": ["north", "south"] * 294 + ["west"] * 12})
    proposed = infer(
        table, name="n", source="s", target="died", sensitive=("région",), positive="1", small_groups="merge"
    )
    assert proposed.policy.small_groups == "merge"


def test_a_name_that_only_ends_like_an_identifier_is_not_one() -> None:
    table = patients().assign(covid=range(600), lipid=np.linspace(0, 1, 600), map_post=np.linspace(60, 130, 600))
    columns = settings_for(table.assign(covid=table["covid"] % 90)).columns
    assert [columns[name].kind for name in ("covid", "lipid", "map_post")] == ["integer", "number", "number"]


def test_an_odd_file_goes_in_and_comes_back_as_it_was(tmp_path: Path) -> None:
    """Spaces, unicode, dates, decimals, 40 % missing and three groups; only owner.toml is edited by hand."""
    draw = np.random.default_rng(3)
    rows = 1200
    table = pd.DataFrame(
        {
            "Fall-Nr.": [f"K{number:05d}" for number in range(rows)],
            "Größe (cm)": draw.normal(170, 9, rows).round(1),
            "blood pressure / mmHg": draw.integers(80, 190, rows).astype(float),
            "🩺 puls": draw.integers(40, 160, rows).astype(float),
            "Aufnahme am": [f"20{draw.integers(10, 24)}-{draw.integers(1, 13):02d}-07" for _ in range(rows)],
            "Überwiesen von": draw.choice(["Hausarzt, Praxis", 'Klinik "Süd"', "selbst"], rows),
            "groupe d'âge": draw.choice(["jeune", "moyen", "âgé"], rows),
            "décès ?": draw.choice(["oui", "non"], rows, p=[0.3, 0.7]),
        }
    )
    holes = ["Größe (cm)", "blood pressure / mmHg", "🩺 puls", "Aufnahme am", "Überwiesen von"]
    table[holes] = table[holes].mask(draw.random((rows, len(holes))) < 0.4)
    table.to_csv(tmp_path / "Patienten 2024.csv", index=False)
    folder = tmp_path / "klinik"
    proposed = steps.init(
        folder,
        data=tmp_path / "Patienten 2024.csv",
        target="décès ?",
        sensitive=("groupe d'âge",),
        positive="oui",
    )
    assert {name: entry.kind for name, entry in proposed.columns.items()} == {
        "Fall-Nr.": "undecided",
        "Größe (cm)": "number",
        "blood pressure / mmHg": "integer",
        "🩺 puls": "integer",
        "Aufnahme am": "date",
        "Überwiesen von": "category",
        "groupe d'âge": "category",
        "décès ?": "category",
    }
    node = Node.open(folder)
    text = node.settings.read_text(encoding="utf-8")
    node.settings.write_text(text.replace('kind = "undecided"', 'kind = "exclude"'), encoding="utf-8")
    prepared = steps.prepare(node, read_settings(node))
    assert len(prepared.schema.groups) == 3
    back = restore(pd.concat([prepared.training, prepared.held_out]), prepared.schema)
    assert str(back["🩺 puls"].dtype) == "Int64"
    for name in back:
        before, after = table[name], back[name]
        assert sorted(before.dropna()) == sorted(after.dropna()), name
        assert before.isna().sum() == after.isna().sum(), name


@pytest.mark.parametrize("zone", [tz.tzutc(), tz.tzoffset(None, 3600)])
def test_times_in_a_zone_without_a_name_come_back_as_the_same_moments(zone: tzinfo) -> None:
    table = patients()
    table["admitted"] = (table["admitted"] + pd.Timedelta("3h")).dt.tz_localize(zone)
    prepared = fitting.split(table, settings_for(table))
    (admitted,) = (column for column in prepared.schema.columns if column.name == "admitted")
    assert admitted.dtype == UTC_TIME  # type: ignore[union-attr]
    back = restore(pd.concat([prepared.training, prepared.held_out]), prepared.schema)["admitted"]
    assert sorted(back) == sorted(table["admitted"])


def test_a_missing_sensitive_value_is_a_group_of_its_own() -> None:
    table = patients().assign(**{"région": ["north", "south", None] * 200})
    assert (ingest(table, settings_for(table)).frame["région"] == MISSING).sum() == 200


def test_a_byte_order_mark_and_spaces_after_commas_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_bytes(b'\xef\xbb\xbfa, b\n1, "x, y"\n')
    assert read_table(path).to_dict("list") == {"a": [1], "b": ["x, y"]}


def test_init_never_overwrites_a_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="not empty"):
        steps.init(tmp_path, dataset_name="compas")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_column_kind_decided_by_hand_is_what_is_modelled() -> None:
    settings = with_column("age", kind="category")(settings_for(patients()))
    facts = {fact.name: fact for fact in ingest(patients(), settings).columns}
    assert facts["age"].kind == "category"
    assert ColumnSettings(kind="date").role == "feature"


def test_every_column_that_cannot_be_read_is_named_at_once() -> None:
    table = patients()
    settings = settings_for(table)
    broken = table.assign(age=table["age"] + 0.5, lactate=1.5)
    with pytest.raises(BadInput) as caught:
        ingest(broken, settings)
    assert caught.value.field == "age, lactate"
    assert 'age: set kind = "number"; lactate: set kind = "exclude"' in caught.value.remedy


@pytest.mark.parametrize("odd", ["unknown", "-1", "999", "01", "18446744073709551616"])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "bool"])
def test_a_declared_category_is_one_that_the_columns_type_can_hold(dtype: str, odd: str) -> None:
    """A codebook also names what nobody in this file has; a student draws it all the same."""
    table = patients().assign(ward=pd.Series([0, 1] * 300, dtype=dtype))
    present = ("False", "True") if dtype == "bool" else ("0", "1")
    found = with_column("ward", kind="category", categories=(*present, odd))(settings_for(table))
    schema = disclose(ingest(table, found), 10)[0]
    (ward,) = (column for column in schema.columns if column.name == "ward")
    drawn = pd.Series(ward.categories, dtype="str")  # type: ignore[union-attr]
    assert canonical(restore_column(drawn, ward), "ward", "category").tolist() == [*present, odd]


def test_a_date_column_of_no_dates_is_all_gaps() -> None:
    written = pd.Series(["03.04.2021", "unknown", None], dtype="str", index=[4, 5, 7])
    found = canonical(written, "admitted", "date", gaps=True)
    assert found.isna().all()
    assert list(found.index) == [4, 5, 7]


def test_features_that_the_policy_or_a_cell_refuses_wait_for_a_person_and_refuse_no_file(tmp_path: Path) -> None:
    few = [int(row < 4) for row in range(600)]
    seen = ["2021-02-30" if row == 3 else f"2021-03-{1 + row % 28:02}" for row in range(600)]
    path = changed(dialysis=few, transplant=few, seen=seen)(tmp_path)
    proposed = steps.init(tmp_path / "hospital", data=path, target="died", sensitive=("région",), positive="1")
    waiting = {name: entry.reason for name, entry in proposed.columns.items() if entry.kind == "undecided"}
    assert waiting.keys() == {"dialysis", "transplant", "seen"}
    assert "fewer records" in waiting["dialysis"]
    assert "not a date" in waiting["seen"]
    assert read_settings(Node(tmp_path / "hospital")).columns == proposed.columns
    with pytest.raises(PolicyRefusal, match="needs a decision"):
        steps.train(tmp_path / "hospital")


def test_too_few_rows_are_refused_though_a_feature_has_the_name_that_the_refusal_gives_them(tmp_path: Path) -> None:
    few = patients().iloc[:60].rename(columns={"ward": "table"})
    with pytest.raises(BadInput, match="fewer than 100 rows"):
        steps.init(tmp_path / "hospital", data=few, target="died", sensitive=("région",), positive="1")


def test_a_file_of_which_every_feature_is_refused_waits_for_a_person(tmp_path: Path) -> None:
    few = patients()[["région", "died"]].assign(dialysis=[int(row < 4) for row in range(600)])
    proposed = steps.init(tmp_path / "hospital", data=few, target="died", sensitive=("région",), positive="1")
    assert proposed.columns["dialysis"].kind == "undecided"


def test_every_feature_that_the_policy_refuses_is_named_at_once() -> None:
    few = [int(row < 4) for row in range(600)]
    table = patients().assign(dialysis=few, transplant=few)
    with pytest.raises(PolicyRefusal) as caught:
        disclose(ingest(table, settings_for(table)), 10)
    assert caught.value.field == "dialysis, transplant"
