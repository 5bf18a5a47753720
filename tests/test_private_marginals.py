"""Noise that is what it says, bins that hold what they say, and microdata made of what was charged and nothing else."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from data_owner.privacy import histogram, private_marginals
from data_owner.privacy.accounting import Query, affordable, guarantee
from data_owner.privacy.domain import domains
from data_owner.privacy.noise import Counts, discrete_gaussian
from data_owner.records.infer import infer
from data_owner.records.ingest import read
from data_owner.settings import OwnerSettings, PrivacySettings
from shared.errors import PolicyRefusal
from shared.progress import quiet
from shared.schema import MISSING

Sampler = Callable[[Counts, float], Counts]
SCALE = 12.0


def is_discrete_gaussian(sampler: Sampler, scale: float, draws: int = 40_000) -> bool:
    """Chi-squared against the exact probabilities exp(-k²/2σ²)/Z; wrong one time in 10^5 if the sampler is right."""
    drawn = sampler(np.zeros(draws, np.int64), scale)
    reach = int(3 * scale)
    places = np.arange(-reach, reach + 1)
    exact = np.exp(-(places**2) / (2.0 * scale**2))
    wide = np.arange(-20 * reach, 20 * reach + 1)
    exact /= np.exp(-(wide**2) / (2.0 * scale**2)).sum()
    inside = drawn[np.abs(drawn) <= reach]
    seen = np.bincount(inside + reach, minlength=len(places))
    expected = np.append(exact, 1.0 - exact.sum()) * draws
    return bool(chisquare(np.append(seen, draws - len(inside)), expected).pvalue > 1e-5)


@pytest.mark.parametrize("scale", [2.0, SCALE])
def test_noise_is_discrete_gaussian_of_its_scale(scale: float) -> None:
    assert is_discrete_gaussian(discrete_gaussian, scale)


@pytest.mark.parametrize("factor", [1 / 64, 0.9, 1.1])
def test_noise_off_by_a_factor_is_caught(factor: float) -> None:
    assert not is_discrete_gaussian(lambda counts, scale: discrete_gaussian(counts, factor * scale), SCALE)


def test_rounded_continuous_noise_is_told_apart_where_it_differs() -> None:
    def rounded(counts: Counts, scale: float) -> Counts:
        return counts + np.rint(np.random.default_rng(0).normal(0.0, scale, counts.shape)).astype(np.int64)

    assert not is_discrete_gaussian(rounded, 0.5)


def test_noise_is_not_drawn_from_a_seed_that_the_process_can_set() -> None:
    drawn = []
    for _ in range(2):
        np.random.seed(0)
        drawn.append(discrete_gaussian(np.zeros(50, np.int64), 100.0).tolist())
    assert drawn[0] != drawn[1]


def no_noise(counts: Counts) -> Counts:
    return counts


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 5000), st.lists(st.floats(0, 1), min_size=1, max_size=200), st.booleans())
def test_without_noise_a_histogram_counts_every_record_once(cells: int, places: list[float], ordered: bool) -> None:
    values = np.minimum((np.array(places) * cells).astype(np.int64), cells - 1)
    found = histogram.count(values, cells, ordered=ordered, has_missing=True, noise=no_noise, scale=1.0)
    assert found.starts[0] == 0
    assert found.starts[-1] == cells - 1
    assert (found.starts[1:] == (found.starts + found.widths)[:-1]).all()
    leaf = np.searchsorted(found.starts, values, "right") - 1
    assert np.allclose(found.records, np.bincount(leaf, minlength=len(found.starts)))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 100_000), st.lists(st.floats(0, 1), min_size=1, max_size=100))
def test_a_histogram_asks_no_more_than_is_charged_and_each_time_of_every_record_once(
    cells: int, places: list[float]
) -> None:
    values = np.minimum((np.array(places) * cells).astype(np.int64), cells - 1)
    asked: list[int] = []

    def noise(counts: Counts) -> Counts:
        asked.append(int(counts.sum()))
        return counts

    histogram.count(values, cells, ordered=True, has_missing=True, noise=noise, scale=0.01)
    assert len(asked) <= histogram.levels(cells, ordered=True)
    assert all(records <= len(values) for records in asked)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 3000), st.lists(st.floats(0, 1), min_size=5, max_size=200), st.floats(1.0, 50.0))
def test_a_cell_comes_back_in_its_own_bin(cells: int, places: list[float], least: float) -> None:
    values = np.minimum((np.array(places) * cells).astype(np.int64), cells - 1)
    found = histogram.count(values, cells, ordered=True, has_missing=True, noise=no_noise, scale=1.0)
    bins = histogram.neighbours(found, least, 1.0)
    encoded = bins.encode(values)
    back = bins.decode(encoded, np.random.default_rng(0))
    assert (bins.encode(back) == encoded).all()
    assert sorted(set(bins.of_leaf)) == list(range(bins.count))


def people(rows: int = 2000) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    sex = draw.choice(["f", "m"], rows, p=[0.4, 0.6])
    age = draw.integers(18, 90, rows)
    gain = np.where(draw.random(rows) < 0.8, 0, draw.integers(1000, 50_000, rows))
    ward = pd.Series(draw.choice(["a", "b", "c"], rows), dtype="str")
    ward[draw.random(rows) < 0.2] = None
    return pd.DataFrame(
        {
            "age": age,
            "gain": gain,
            "ward": ward,
            "weight": np.round(draw.normal(70, 10, rows).clip(40, 110), 1),
            "sex": pd.Series(sex, dtype="str"),
            "died": (draw.random(rows) < 1 / (1 + np.exp(-(age - 60) / 8 - (sex == "m")))).astype(int),
        }
    )


PUBLIC: dict[str, dict[str, object]] = {
    "age": {"bounds": (18.0, 90.0)},
    "gain": {"bounds": (0.0, 100_000.0)},
    "ward": {"categories": ("a", "b", "c", "d")},
    "weight": {"bounds": (40.0, 110.0), "decimals": 1},
    "sex": {"categories": ("f", "m")},
    "died": {"categories": ("0", "1")},
}


def declared(table: pd.DataFrame, **privacy: object) -> OwnerSettings:
    found = infer(table, name="p", source="frame", target="died", sensitive=("sex",), positive="1")
    columns = {name: entry.model_copy(update=PUBLIC.get(name, {})) for name, entry in found.columns.items()}
    return found.model_copy(
        update={"columns": columns, "privacy": PrivacySettings.model_validate({"epsilon": 1.0, **privacy})}
    )


def planned(table: pd.DataFrame, found: OwnerSettings) -> private_marginals.Plan:
    assert found.privacy is not None
    columns = read(table, found, as_declared=True).columns
    return private_marginals.plan(
        domains(columns, found),
        found.privacy,
        affordable(found.privacy.epsilon, found.privacy.delta, found.privacy.draws),
    )


def test_a_draw_asks_exactly_what_was_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every noisy answer is taken down with its scale; together they cost no more than the charge."""
    table = people()
    found = declared(table)
    asked = planned(table, found)
    answers: list[tuple[int, float]] = []

    def noting(counts: Counts, scale: float) -> Counts:
        answers.append((len(counts), scale))
        return discrete_gaussian(counts, scale)

    monkeypatch.setattr(private_marginals, "discrete_gaussian", noting)
    drawn = private_marginals.draw(read(table, found), found, asked, quiet)
    sensitivity = {asked.choice_scale: len(asked.candidates) ** 0.5}
    done = [Query(what="done", noise_multiplier=scale / sensitivity.get(scale, 1.0)) for _, scale in answers]
    charged = guarantee(asked.queries, 1e-5).epsilon
    assert charged <= 1.0
    assert guarantee(done, 1e-5).epsilon <= charged + 1e-6
    assert sum(query.count for query in asked.queries) >= len(answers) > len(table.columns)
    assert list(drawn.columns) == list(table.columns)
    assert abs(len(drawn) - len(table)) < 0.1 * len(table)
    assert abs(float((drawn["gain"] == 0).mean()) - 0.8) < 0.1
    assert 0.1 < float(drawn["ward"].isna().mean()) < 0.3


def test_at_a_large_budget_microdata_has_the_records_marginals() -> None:
    table = people(4000)[["age", "gain", "sex", "died"]]
    found = declared(table, epsilon=100.0)
    drawn = private_marginals.draw(read(table, found), found, planned(table, found), quiet)
    for group in ("f", "m"):
        ours, theirs = (float(one.loc[one["sex"] == group, "died"].mean()) for one in (drawn, table))
        assert ours == pytest.approx(theirs, abs=0.02)
    assert float(drawn["age"].corr(drawn["died"])) == pytest.approx(float(table["age"].corr(table["died"])), abs=0.05)


def test_what_is_asked_depends_on_no_record() -> None:
    few, many = people(300), people(3000)
    assert planned(few, declared(few)) == planned(many, declared(many))


def test_groups_of_several_sensitive_columns_are_counted_together() -> None:
    table = people().assign(race=lambda frame: np.where(frame.index % 3, "x", "y"))
    found = declared(table)
    race = found.columns["race"].model_copy(update={"role": "sensitive", "categories": ("x", "y")})
    both = found.model_copy(update={"columns": {**found.columns, "race": race}})
    assert ("sex", "race", "died") in planned(table, both).outcomes


def test_the_pairs_that_fit_worst_are_counted() -> None:
    table = people()[["age", "gain", "weight", "sex", "died"]]
    asked = replace(planned(table, declared(table)), pairs=2)
    space = private_marginals.mbi.Domain(list(table), [3] * 5)
    assert private_marginals._chosen(space, asked, np.array([1.0, 9.0, 5.0])) == list(asked.candidates[1:])


def test_all_rows_of_a_person_are_covered_by_more_noise() -> None:
    table = people().assign(person=lambda frame: frame.index // 4)
    one, three = (declared(table, person="person", rows_per_person=rows) for rows in (1, 3))
    for found in (one, three):
        found.columns["person"] = found.columns["person"].model_copy(update={"kind": "exclude"})
    assert three.privacy is not None
    kept = private_marginals.of_each_person(table, three.privacy)
    assert kept.groupby("person").size().max() == 3
    a, b = planned(table, one), planned(table, three)
    assert a.queries == b.queries
    for scale in ("histogram_scale", "outcome_scale", "choice_scale", "pair_scale"):
        assert getattr(b, scale) == pytest.approx(3 * getattr(a, scale))


@pytest.mark.parametrize("gone", ["person 0", "person 77"])
def test_a_person_moves_every_answer_by_no_more_than_its_noise_is_scaled_to(
    gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole draw with and without a person, the noisy answers being the same and so is the model between them.

    The model's own rows, which the records are compared with, come from numpy's global generator: one seed for both.
    """
    table = people(600).assign(person=lambda frame: [f"person {row // 5}" if row % 7 else None for row in frame.index])
    found = declared(table, person="person", rows_per_person=3)
    found.columns["person"] = found.columns["person"].model_copy(update={"kind": "exclude"})
    assert found.privacy is not None
    asked = planned(table, found)
    heard: list[tuple[Counts, float, Counts]] = []
    again: list[tuple[Counts, float]] = []

    def answering(counts: Counts, scale: float) -> Counts:
        heard.append((counts, scale, discrete_gaussian(counts, scale)))
        return heard[-1][2]

    def repeating(counts: Counts, scale: float) -> Counts:
        again.append((counts, scale))
        return heard[len(again) - 1][2]

    neighbour = table[table["person"] != gone].reset_index(drop=True)
    for one, noise in ((table, answering), (neighbour, repeating)):
        monkeypatch.setattr(private_marginals, "discrete_gaussian", noise)
        kept = private_marginals.of_each_person(one, found.privacy)
        np.random.seed(0)
        private_marginals.draw(read(kept, found, as_declared=True), found, asked, quiet)
    assert len(heard) == len(again) > len(PUBLIC)
    moved = [float(np.linalg.norm(ours - theirs)) for (ours, _, _), (theirs, _) in zip(heard, again, strict=True)]
    allowed = [3.0 * (len(asked.candidates) ** 0.5 if scale == asked.choice_scale else 1.0) for _, scale, _ in heard]
    beyond = {place: pair for place, pair in enumerate(zip(moved, allowed, strict=True)) if pair[0] > pair[1] + 1e-9}
    assert not beyond
    assert max(moved) > 1.0


def test_rows_that_name_nobody_are_left_out() -> None:
    table = people(400).assign(person=lambda frame: [None if row < 50 else f"person {row}" for row in frame.index])
    kept = private_marginals.of_each_person(table, PrivacySettings(epsilon=1.0, person="person"))
    assert len(kept) == 350
    assert kept["person"].notna().all()


def test_no_record_is_refused_for_what_it_holds() -> None:
    table = people()
    strange = table.astype({"died": "str"})
    strange.loc[0, "age"], strange.loc[1, "sex"], strange.loc[2, "ward"] = 107, "x", "z"
    strange.loc[3, "died"], strange.loc[4, "died"] = "perhaps", None
    found = declared(table)
    strange = strange.astype({"age": "object", "gain": "float64"})
    strange.loc[6, "age"], strange.loc[7, "gain"], strange.loc[8, "gain"] = "old", np.inf, 2.0**60
    strange["age"] = strange["age"].astype("str")
    records = read(strange, found, as_declared=True)
    assert records.columns == read(table, found, as_declared=True).columns
    assert records.frame.loc[[6, 7, 8], ["age", "gain"]].isna().to_numpy().sum() == 3
    assert records.frame["age"].max() == 90.0
    assert records.frame.loc[1, "sex"] == MISSING
    assert pd.isna(records.frame.loc[2, "ward"])
    assert list(records.frame.index) == [0, 1, 2, *range(5, len(table))]
    assert planned(strange, found) == planned(table, found)
    lonely = table.assign(gain=0, ward=None)[:5]
    assert read(lonely, found, as_declared=True).columns == read(table, found, as_declared=True).columns


@pytest.mark.parametrize("column", ["age", "died"])
def test_a_gap_does_not_show_in_the_type_that_a_column_comes_back_in(column: str) -> None:
    table = people().astype({column: "float64"})
    gap = table.copy()
    gap.loc[0, column] = np.nan
    found = declared(people())
    whole, gapped = (read(one, found, as_declared=True).columns for one in (table, gap))
    assert whole == gapped


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1999))
def test_one_person_moves_each_count_by_one(gone: int) -> None:
    """The sensitivity that the noise is scaled to, on the counts themselves."""
    table = people()
    found = declared(table)
    with_them, without = read(table, found), read(table.drop(index=gone), found)
    for space in domains(with_them.columns, found):
        ours, theirs = (space.encode(records.frame[space.name]) for records in (with_them, without))
        moved = np.bincount(ours, minlength=space.cells) - np.bincount(theirs, minlength=space.cells)
        assert np.linalg.norm(moved) == 1.0


@pytest.mark.parametrize("column", list(PUBLIC))
def test_a_column_that_declares_nothing_is_refused_and_named(column: str) -> None:
    table = people()
    found = declared(table)
    undeclared = found.columns[column].model_copy(update={"bounds": None, "categories": None})
    settings_ = found.model_copy(update={"columns": {**found.columns, column: undeclared}})
    with pytest.raises(PolicyRefusal) as refused:
        domains(read(table, settings_).columns, settings_)
    assert refused.value.field == column
    assert "public knowledge" in refused.value.remedy


def test_all_columns_that_declare_nothing_are_named_at_once() -> None:
    table = people()
    found = declared(table)
    nothing = {
        name: entry.model_copy(update={"bounds": None, "categories": None}) for name, entry in found.columns.items()
    }
    settings_ = found.model_copy(update={"columns": nothing})
    with pytest.raises(PolicyRefusal) as refused:
        domains(read(table, settings_).columns, settings_)
    assert set(refused.value.field.split(", ")) == set(PUBLIC)
    assert all(f"{name}: " in refused.value.remedy for name in PUBLIC)


def test_the_last_class_is_a_class_however_rare() -> None:
    """A target is never missing; its last cell once counted as that, and joined the largest class."""
    values = np.repeat([0, 1], [2990, 10])
    found = histogram.count(values, 2, ordered=False, has_missing=False, noise=no_noise, scale=100.0)
    bins = histogram.classes(found)
    assert found.records.tolist() == [2990.0, 10.0]
    assert bins.encode(np.array([0, 1])).tolist() == [0, 1]
    assert bins.decode(np.array([1]), np.random.default_rng(0)).tolist() == [1]


@pytest.mark.parametrize(("bounds", "dtype"), [((0.1, 5000.0), "float64"), ((40.0, 110.7), "float32")])
def test_microdata_is_within_the_bounds_it_was_drawn_under(bounds: tuple[float, float], dtype: str) -> None:
    table = people().astype({"weight": dtype})
    found = declared(table)
    entry = found.columns["weight"].model_copy(update={"bounds": bounds, "decimals": None})
    found = found.model_copy(update={"columns": {**found.columns, "weight": entry}})
    (space,) = (one for one in domains(read(table, found, as_declared=True).columns, found) if one.name == "weight")
    ends = space.decode(np.resize([0, space.cells - 2], len(table)))
    assert ends.dtype == dtype
    assert read(table.assign(weight=ends), found).frame["weight"].between(*bounds).all()
