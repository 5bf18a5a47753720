"""Pictures of the reports say what they show, to every eye and to none, and are the same each time."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.card import F1
from shared.plots import (
    CATEGORIES,
    COLOURS,
    REAL,
    STYLES,
    SYNTHETIC,
    correlations,
    curves,
    group_bars,
    intervals,
    marginals,
    score_bars,
    short,
)
from shared.report import Figure, Report, Section
from shared.schema import NumericColumn, Schema
from shared.scores import Scores

ROOT = Path(__file__).parent.parent
RATES = {"recorded": {"a": 0.5, "b": 0.25}, "predicted": {"b": 0.75}}


def words(picture: Figure) -> list[str]:
    """Each text that is drawn."""
    return re.findall("<!-- (.*?) -->", picture.svg)


def test_who_has_no_figure_has_no_bar() -> None:
    drawn = words(group_bars(RATES, "Rates."))
    assert drawn.count("0.50") == drawn.count("0.75") == drawn.count("0.25") == 1
    assert "0.00" not in drawn


def test_no_two_pictures_of_a_page_share_an_id_and_each_refers_to_its_own() -> None:
    pictures = group_bars(RATES, "Rates."), intervals({"linkability": (0.1, 0.0, 0.2)}, {"linkability": 0.1}, "Risk.")
    ids = [re.findall(r'\bid="([^"]+)"', picture.svg) for picture in pictures]
    assert len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    for picture, own in zip(pictures, ids, strict=True):
        referred = re.findall(r'(?:href="|url\()#([^")]+)', picture.svg)
        assert referred
        assert set(referred) <= set(own)


def test_letters_that_the_font_lacks_make_no_warning_that_quotes_them() -> None:
    code = "from shared.plots import group_bars; group_bars({'recorded': {'病院': 0.5}}, 'Rates.')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_same_picture_is_the_same_text() -> None:
    first, again = (curves([1, 2], {"target": [3.0, 0.5]}, "nats", "Losses.") for _ in range(2))
    assert first == again


def test_a_screen_reader_hears_the_words_and_no_letters_of_the_picture() -> None:
    html = Report("t", "s", (), (), (Section("Groups", "", figures=(group_bars(RATES, "Rates."),)),)).to_html()
    assert '><svg aria-hidden="true"' in html
    assert (
        "<figcaption>Rates. Lowest and highest: recorded 0.25 and 0.50, predicted 0.75 and 0.75.</figcaption>" in html
    )


def test_a_score_is_called_alike_in_a_picture_a_table_and_the_gate() -> None:
    drawn = words(score_bars({"synthetic": Scores(**dict.fromkeys(Scores.model_fields, 0.9))}, "Scores."))
    heads = Scores.heads()
    assert {word for head in heads for word in head.split(" ", 1)} <= set(drawn)
    assert F1.startswith(heads[-1])


def test_synthetic_rows_have_one_colour_wherever_they_are() -> None:
    picture = group_bars({"synthetic": {"a": 0.5}}, "Rates.")
    assert SYNTHETIC in picture.svg
    assert REAL not in picture.svg


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1) of #rrggbb."""
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return float(np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_every_bar_and_line_stands_out_from_white_paper() -> None:
    edges = [style.get("edgecolor", style["facecolor"]) for style in STYLES.values()]
    for colour in (REAL, *COLOURS, *edges):
        assert 1.05 / (_luminance(colour) + 0.05) >= 3.0, colour


def test_a_panel_of_a_number_has_its_ends_and_one_of_a_category_its_names(
    disclosed: tuple[Schema, pd.DataFrame],
) -> None:
    schema, table = disclosed
    drawn = words(marginals(schema, {"real": table, "synthetic": table}, "Columns."))
    for column in schema.tabular:
        if not isinstance(column, NumericColumn):
            assert {short(name, 11) for name in column.categories[:CATEGORIES]} <= set(drawn)
    (age,) = (column for column in schema.tabular if column.name == "age")
    (admitted,) = (column for column in schema.tabular if column.name == "admitted")
    assert isinstance(age, NumericColumn)
    assert isinstance(admitted, NumericColumn)
    assert {f"{value:g}" for value in (age.quantiles.values[0], age.quantiles.values[-1])} <= set(drawn)
    days = np.array([admitted.quantiles.values[0], admitted.quantiles.values[-1]]).astype("datetime64[D]")
    assert set(days.astype(str)) <= set(drawn)


def test_rows_of_a_matrix_are_named_and_the_words_say_what_differs_most() -> None:
    real = np.array([[1.0, 0.25, 0.0], [0.25, 1.0, 0.5], [0.0, 0.5, 1.0]])
    synthetic = real + np.array([[0.0, 0.1, 0.0], [0.1, 0.0, -0.3], [0.0, -0.3, 0.0]])
    picture = correlations(["age", "$ paid", "died"], {"real": real, "synthetic": synthetic}, "Associations.")
    assert {"age", "$ paid", "died"} <= set(words(picture))
    assert picture.alt.endswith("Furthest apart are $ paid and died: 0.50 and 0.20.")


@pytest.mark.parametrize(
    ("picture", "axis", "said"),
    [
        (
            intervals({"a": (0.02, 0.0, 0.1), "b": (-0.0001, -0.1, 0.1)}, {"a": 0.05, "b": 0.1}, "Risk."),
            "risk (0: no more is found out about members than about others)",
            "Risk. The highest is 0.020, a; its limit is 0.050.",
        ),
        (
            curves([1, 2], {"target": [3.0, 0.5]}, "nats", "Losses."),
            "nats",
            "Losses. First and last: target 3 and 0.5.",
        ),
        (group_bars({"synthetic": {}}, "Rates."), "share that is positive", "Rates."),
    ],
    ids=["intervals", "curves", "group bars"],
)
def test_an_axis_says_what_its_values_are_and_the_words_what_was_found(picture: Figure, axis: str, said: str) -> None:
    assert axis in words(picture)
    assert picture.alt == said
