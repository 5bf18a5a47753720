"""Pictures of the reports say what they show, to every eye and to none, and are the same each time."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_owner.benchmark.plots import importance_bars
from shared.card import F1
from shared.latent_plots import overlay
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


def test_two_days_are_not_drawn_over_each_other(disclosed: tuple[Schema, pd.DataFrame]) -> None:
    schema, table = disclosed
    drawn = marginals(schema, {"synthetic": table}, "Columns.").svg
    first, last = re.findall(r"<!-- \d{4}-\d\d-\d\d -->\s*<g transform=\"translate\(\S+ (\S+)\)", drawn)
    assert float(last) - float(first) >= 7.0


def test_rows_of_a_matrix_are_named_and_the_words_say_what_differs_most() -> None:
    real = np.array([[1.0, 0.25, 0.0], [0.25, 1.0, 0.5], [0.0, 0.5, 1.0]])
    synthetic = real + np.array([[0.0, 0.1, 0.0], [0.1, 0.0, -0.3], [0.0, -0.3, 0.0]])
    picture = correlations(["age", "$ paid", "died"], {"real": real, "synthetic": synthetic}, "Associations.")
    assert {"age", "$ paid", "died"} <= set(words(picture))
    assert picture.alt.endswith("Furthest apart are $ paid and died: 0.50 and 0.20.")
    alone = correlations(["age", "$ paid", "died"], {"synthetic": -real}, "Associations.")
    assert alone.alt.endswith("Closest are $ paid and died: -0.50.")
    assert correlations(["age"], {"synthetic": np.eye(1)}, "Associations.").alt.endswith("a dash.")


def test_in_black_and_white_an_association_and_its_opposite_differ() -> None:
    for sign, dashes in ((1.0, 0), (-1.0, 6)):
        matrix = np.where(np.eye(3) > 0.0, 1.0, sign * 0.7)
        drawn = correlations(["a", "b", "c"], {"synthetic": matrix}, "Associations.").svg
        paths = re.findall('<path d="([^"]*)"[^>]*stroke: #ffffff', drawn)
        assert sum(path.count("M") for path in paths) == dashes


def test_names_of_the_rows_of_a_matrix_do_not_overlap_however_many_there_are() -> None:
    for rows in (3, 40, 120):
        names = [f"column {row}" for row in range(rows)]
        drawn = correlations(names, {"real": np.eye(rows), "synthetic": np.eye(rows)}, "Associations.").svg
        found = re.findall(r"<!-- column \d+ -->\s*<g transform=\"translate\(\S+ (\S+)\) scale\((\S+) ", drawn)
        places, sizes = np.array(found, float).T
        assert len(places) == rows
        assert np.diff(places).min() >= 100 * sizes.max() - 0.01


def test_lines_bars_and_clouds_are_told_apart_without_colours() -> None:
    names = "reconstruction", "divergence", "target"
    lines = curves([1, 2], {name: [2.0, 1.0] for name in names}, "nats", "Losses.").svg
    colours = "|".join(COLOURS)
    assert len(set(re.findall(rf'style="fill: none; (.*?)stroke: (?:{colours})', lines))) == len(names)
    bars = [group_bars({name: {"a": 0.5}}, "Rates.").svg for name in ("recorded", "predicted")]
    assert ["<pattern" in each for each in bars] == [False, True]
    points = np.random.default_rng(0).normal(size=(40, 3))
    clouds = overlay({"teacher": points, "student": points}, "Latents.").svg
    first, second = (set(re.findall(rf'<use xlink:href="(#\S+)" [^>]*{colour}', clouds)) for colour in COLOURS[:2])
    assert first
    assert second
    assert not first & second


def test_the_words_say_whether_clouds_lie_alike() -> None:
    draw = np.random.default_rng(0)
    cloud, same = draw.normal(size=(2, 40, 3))
    said = "Latents. {} % of the points have their nearest neighbour in their own cloud; by chance 49 % would if the "
    assert overlay({"teacher": cloud, "student": cloud + 100.0}, "Latents.").alt.startswith(said.format(100))
    (own,) = re.findall(r" (\d+) % of the points", overlay({"teacher": cloud, "student": same}, "Latents.").alt)
    assert 35 < int(own) < 65


def test_the_words_say_which_columns_differ_most_and_what_a_model_relies_on(
    disclosed: tuple[Schema, pd.DataFrame],
) -> None:
    schema, table = disclosed
    other = table.assign(age=table["age"].max() + 1.0, ventilated=table["ventilated"].iloc[0])
    other.loc[other.index[:150], "lactate"] = 0.0
    picture = marginals(schema, {"real": table, "synthetic": other}, "Columns.")
    (named,) = re.findall(r"as far as can be, are (.*) \(Kolm", picture.alt)
    assert re.sub(r"\d\.\d\d", "x", named) in ("age x, ventilated x, lactate x", "age x, lactate x, ventilated x")
    assert named.startswith("age 1.00")
    assert "urthest" not in marginals(schema, {"synthetic": table}, "Columns.").alt
    relied = {"original rows": {"a": 0.1, "b": 0.3, "c": -0.0001, "d": 0.2}, "synthetic rows": {"a": 0.05}}
    assert importance_bars(relied, "Importance.").alt == (
        "Importance. Trained on original rows the largest are b 0.300, d 0.200, a 0.100. Trained on synthetic rows the "
        "largest are a 0.050."
    )


@pytest.mark.parametrize(
    ("picture", "axis", "said"),
    [
        (
            intervals({"a": (0.02, 0.0, 0.1), "b": (-0.0001, -0.1, 0.1)}, {"a": 0.05, "b": 0.1}, "Risk."),
            "risk (0: no more is found out about members than about others)",
            "Risk. The highest is 0.020, a; its limit is 0.050.",
        ),
        (
            curves([1, 2], {"target": [3.0, 0.5], "distance": [120.4, 3e-05]}, "nats", "Losses."),
            "nats",
            "Losses. First and last: target 3.000 and 0.500, distance 120.400 and 3e-05.",
        ),
        (group_bars({"synthetic": {}}, "Rates."), "share that is positive", "Rates."),
    ],
    ids=["intervals", "curves", "group bars"],
)
def test_an_axis_says_what_its_values_are_and_the_words_what_was_found(picture: Figure, axis: str, said: str) -> None:
    assert axis in words(picture)
    assert picture.alt == said
