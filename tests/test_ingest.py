"""What is taken in, and what is refused: precisely, with a remedy, without a data value, with nothing written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_owner import steps
from data_owner.datasets import DATASETS, load
from data_owner.ingest import infer, ingest
from data_owner.owner_toml import dump, parse
from data_owner.settings import ColumnSettings, OwnerSettings
from shared.errors import BadInput, Fair4FreeError, PolicyRefusal, Unreachable, VerificationFailure
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


BAD_FILES: dict[str, tuple[Callable[[Path], Path], type[Fair4FreeError], str]] = {
    "missing file": (lambda folder: folder / "nowhere.csv", Unreachable, "nowhere.csv"),
    "folder in place of a file": (lambda folder: folder, BadInput, "source"),
    "unknown suffix": (raw(b"a,b\n1,2\n", "records.xls"), BadInput, "records.xls"),
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
    "target missing": (lambda folder: changed()(folder), BadInput, "outcome"),
    "constant target": (changed(died=1), BadInput, "died"),
    "three classes": (changed(died=[0, 1, 2] * 200), BadInput, "died"),
    "target with gaps": (changed(died=[0.0, 1.0, np.nan] * 200), BadInput, "died"),
    "one group": (changed(**{"région": SECRET}), BadInput, "région"),
    "small group": (changed(**{"région": ["north", "south"] * 298 + [SECRET] * 4}), PolicyRefusal, "région"),
    "infinity": (changed(lactate=[np.inf, *range(599)]), BadInput, "lactate"),
    "few rows": (csv("age,région,died\n" + "1,n,0\n2,s,1\n" * 20), BadInput, "table"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_init_refuses_bad_input_precisely_and_writes_nothing(name: str, tmp_path: Path) -> None:
    make, error, field = BAD_FILES[name]
    source, target = tmp_path / "source", tmp_path / "hospital"
    source.mkdir()
    with pytest.raises(error) as caught:
        steps.init(
            target, data=make(source), target="outcome" if field == "outcome" else "died", sensitive=("région",)
        )
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
    "undecided": ({}, with_column("ward", kind="undecided", reason="looks odd"), PolicyRefusal, "ward"),
    "unknown column": ({"surplus": 1}, same, BadInput, "surplus"),
    "absent column": ({"ward": None}, same, BadInput, "ward"),
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


def test_the_positive_class_is_the_telling_one_or_else_the_rarer() -> None:
    def positive(labels: list[str]) -> str:
        table = patients().assign(died=labels * (600 // len(labels)))
        return infer(table, name="n", source="s", target="died", sensitive=("région",)).positive

    assert positive(["no", "yes", "yes", "yes"]) == "yes"
    assert positive(["alive", "alive", "dead"]) == "dead"


def test_small_groups_are_merged_when_the_policy_says_so() -> None:
    table = patients().assign(**{"région": ["north", "south"] * 294 + ["west"] * 6 + ["isle"] * 6})
    merged = ingest(table, settings_for(table, small_groups="merge")).frame["région"]
    assert (merged == MERGED).sum() == 12


def test_a_missing_sensitive_value_is_a_group_of_its_own() -> None:
    table = patients().assign(**{"région": ["north", "south", None] * 200})
    assert (ingest(table, settings_for(table)).frame["région"] == MISSING).sum() == 200


def test_owner_toml_comes_back_as_it_was_written() -> None:
    settings = settings_for(patients())
    settings = with_column("age", bounds=(0.0, 120.0))(settings)
    settings = with_column("ward", categories=("surgery", 'odd "quotes"', "naïve"))(settings)
    assert parse(dump(settings)) == settings


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("minimum_count = 10", "minimum_count = 1", "minimum_count"),
        ("minimum_count = 10", "minimun_count = 10", "minimun_count"),
        ('kind = "integer"', 'kind = "whole"', "columns.age"),
        ('role = "target"', 'role = "feature"', "target"),
        ("[policy]", "[policy", "line"),
        ('criterion = "parity"', 'criterion = "none"', "criterion"),
    ],
)
def test_a_mistake_in_owner_toml_is_named(before: str, after: str, said: str) -> None:
    text = dump(settings_for(patients()))
    assert before in text
    with pytest.raises(BadInput, match=said):
        parse(text.replace(before, after, 1))


def test_without_a_policy_nothing_goes_on() -> None:
    text = dump(settings_for(patients()))
    start, end = text.index("[policy]"), text.index("[training]")
    with pytest.raises(BadInput, match="policy"):
        parse(text[:start] + text[end:])


@pytest.mark.parametrize("name", DATASETS)
def test_the_data_sets_that_ship_are_whole_and_can_be_ingested(name: str) -> None:
    known, table = DATASETS[name], load(name)
    assert len(table) == known.rows
    settings = infer(table, name=name, source=name, target=known.target, sensitive=known.sensitive[:1])
    assert settings.positive == known.positive
    assert not [column for column, entry in settings.columns.items() if entry.kind == "undecided"]
    assert len(ingest(table, settings).frame) == known.rows


def test_compas_by_race_keeps_its_two_largest_groups() -> None:
    table = load("compas", ("race",))
    assert (len(table), table["race"].nunique()) == (5278, 2)


def test_support2_ships_without_what_leaks_the_outcome() -> None:
    leaks = {"death", "d.time", "slos", "sfdm2", "surv2m", "surv6m", "prg2m", "prg6m", "sno"}
    assert not leaks & set(load("support2").columns)


def test_a_data_set_file_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "compas.parquet").write_bytes(b"other")
    monkeypatch.setattr("data_owner.datasets.FOLDER", tmp_path)
    with pytest.raises(VerificationFailure):
        load("compas")


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
