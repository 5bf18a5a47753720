"""Nothing in a schema stands for too few records."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from data_owner.learning import fitting
from data_owner.measure import rarest_category
from data_owner.records.disclosure import disclose, merge_rare, publishable_rate, quantile_table, shares, tens
from data_owner.records.infer import infer
from data_owner.records.ingest import Records, ingest
from data_owner.settings import OwnerSettings, PrivacySettings
from shared.card import GroupSize
from shared.errors import PolicyRefusal
from shared.limits import LIMITS
from shared.metrics import group_rates, outcome
from shared.schema import MERGED, CategoricalColumn, Group, NumericColumn, Quantiles
from shared.scores import GroupAccuracy
from tests.conftest import patients, settings_for

MINIMUM = 10


def rare_merged(values: pd.Series) -> pd.Series:
    return merge_rare(values, MINIMUM, np.arange(len(values)))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=30, max_size=300), st.floats(0.0, 0.3))
def test_no_category_is_left_with_fewer_records_than_the_minimum(labels: list[str], gaps: float) -> None:
    values = pd.Series(labels, dtype="str")
    values[np.random.default_rng(0).random(len(values)) < gaps] = None
    merged = rare_merged(values)
    counts = merged.value_counts(dropna=False)
    assert (counts >= MINIMUM).all()
    common = values.map(values.value_counts()) >= MINIMUM
    assert (merged[common] == values[common]).all(), "what enough records have stays what it is"


def table_of(
    values: np.ndarray, decimals: int, bounds: tuple[float, float] | None = None, beyond: int = MINIMUM
) -> Quantiles:
    return quantile_table(values, MINIMUM, decimals, bounds, beyond)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=40, max_size=400, unique=True))
def test_the_ends_of_a_table_are_means_of_ten_records_with_ten_beyond_them(values: list[float]) -> None:
    ordered = np.sort(values)
    table = table_of(np.asarray(values), 8)
    assert table.values[0] == pytest.approx(ordered[MINIMUM : 2 * MINIMUM].mean(), rel=1e-4, abs=1e-4)
    assert table.values[-1] == pytest.approx(ordered[-2 * MINIMUM : -MINIMUM].mean(), rel=1e-4, abs=1e-4)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 7.0]) | st.floats(0.0, 9.0), min_size=40, max_size=400), st.data())
def test_what_the_ten_outermost_records_hold_moves_nothing(values: list[float], data: st.DataObject) -> None:
    kept = np.sort(values)[:-MINIMUM]
    highest, outliers = st.floats(10.0, 99.0), st.floats(10.0, 1e9)
    one, other = (
        table_of(np.append(kept, data.draw(st.lists(drawn, min_size=MINIMUM, max_size=MINIMUM, unique=True))), 6)
        for drawn in (highest, outliers)
    )
    assert one == other


@pytest.mark.parametrize("few", [1, 2, 9, 19])
def test_fewer_than_twenty_beyond_the_last_shared_value_join_it(few: int) -> None:
    values = np.append(np.zeros(2000), 1000.0 + np.arange(few))
    assert set(table_of(values, 6).values) == {0.0}


@settings(max_examples=100, deadline=None)
@given(st.integers(40, 400), st.integers(0, 60), st.integers(0, 60), st.data())
def test_no_record_is_behind_two_means(count: int, zeros: int, ends: int, data: st.DataObject) -> None:
    values = np.concatenate([np.zeros(zeros), 1.0 + np.arange(count), np.full(ends, count + 9.0)])
    moved = values.copy()
    moved[zeros + data.draw(st.integers(0, count - 1))] += 0.5
    before, after = (np.array(table_of(each, 9).values) for each in (values, moved))
    assert len(before) == len(after)
    assert len(set(before[before != after])) <= 1


def test_a_unique_value_is_not_in_the_table_but_a_shared_one_is() -> None:
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(50.0, 9.0, 500), np.full(40, 33.3), [777.777]])
    table = table_of(values, 6)
    assert 33.3 in table.values
    assert 777.777 not in table.values
    assert not set(table.values) & set(np.round(values[:500], 6))


def test_the_table_of_twice_the_records_is_the_same_table() -> None:
    values = np.concatenate([np.random.default_rng(0).gamma(2.0, 5.0, 9_000).round(2), np.zeros(2_000)])
    once, twice = table_of(values, 2), table_of(np.repeat(values, 2), 2)
    assert len(once.ranks) == len(twice.ranks)


def _decoded(table: Quantiles) -> np.ndarray:
    ranks = (np.arange(20_000) + 0.5) / 20_000
    return np.interp(ranks, table.ranks, table.values)


@pytest.mark.parametrize("sentinel", [-1.0, 999.0])
def test_nothing_is_made_up_between_a_sentinel_and_the_rest(sentinel: float) -> None:
    weights = np.random.default_rng(0).normal(75.0, 15.0, 900).clip(40.0, 140.0).round(1)
    decoded = _decoded(table_of(np.concatenate([weights, np.full(39, sentinel)]), 1))
    rest = decoded[np.round(decoded, 1) != sentinel]
    assert (rest >= weights.min()).all()
    assert (rest <= weights.max()).all()
    assert 1.0 - len(rest) / len(decoded) == pytest.approx(39 / 939, abs=0.005)


def test_a_heavy_tail_keeps_its_shape() -> None:
    charges = np.random.default_rng(0).lognormal(9.0, 2.0, 9_000)
    assert ks_2samp(charges, _decoded(table_of(charges, 2))).statistic < 0.008


def test_too_few_sentinels_to_be_told_stretch_no_table() -> None:
    weights = np.random.default_rng(0).normal(75.0, 15.0, 5_000).clip(40.0, 140.0).round(1)
    decoded = _decoded(table_of(np.concatenate([weights, np.full(9, 999.0)]), 1))
    assert decoded.max() <= weights.max()


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 40_000))
def test_points_within_a_table_stand_for_records_of_their_own(count: int) -> None:
    table = table_of(np.arange(count, dtype=float), 9)
    inner = np.array(table.values[1:-1])
    assert (np.diff(inner) >= MINIMUM - 1).all(), "the value of a point is its place among the records"


def test_fewer_than_the_minimum_before_a_sentinel_join_the_value_that_is_near() -> None:
    years = np.concatenate([np.repeat(np.arange(18.0, 86.0), 12), [86.0, 87.0, 90.0], np.full(40, 999.0)])
    assert set(np.round(_decoded(table_of(years, 0)))) == {*np.arange(18.0, 86.0), 999.0}


def test_fewer_than_the_minimum_that_lie_evenly_between_two_shared_values_stay_there() -> None:
    hours = np.concatenate([np.full(60, 40.0), [41.0] * 4, [42.0] * 4, np.full(60, 43.0)])
    decoded = np.round(_decoded(table_of(hours, 0)))
    assert 0.0 < np.isin(decoded, [41.0, 42.0]).mean() < 0.08


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1.0, 99.0), min_size=30, max_size=200, unique=True), st.integers(0, 29))
def test_the_points_beside_a_shared_value_are_means_of_the_ten_next_to_it(values: list[float], more: int) -> None:
    others = np.sort(values)
    table = table_of(np.concatenate([np.zeros(10 + more), others, np.full(10 + more, 1e3)]), 8)
    inner = [value for value in table.values if 0.0 < value < 1e3]
    assert inner[0] == pytest.approx(others[:MINIMUM].mean(), rel=1e-4)
    assert inner[-1] == pytest.approx(others[-MINIMUM:].mean(), rel=1e-4)


def test_declared_bounds_are_the_ends_of_the_table() -> None:
    table = table_of(np.random.default_rng(0).uniform(10.0, 90.0, 500), 3, (0.0, 100.0))
    assert (table.values[0], table.values[-1]) == (0.0, 100.0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2000), st.integers(1, 60), st.integers(0, 1))
def test_one_extreme_record_moves_no_point_though_bounds_are_declared(zeros: int, others: int, high: int) -> None:
    """Only the bound itself is public: a run of few records beyond the last shared value has its largest in it."""
    values = np.concatenate([np.zeros(zeros + 20), 80.0 + np.arange(others)])
    one, other = (table_of((2 * high - 1) * np.append(values, extreme), 0, (-1e6, 1e6)) for extreme in (200.0, 9e5))
    assert one == other


def test_of_microdata_a_declared_range_is_used_to_its_last_row() -> None:
    """Nobody is behind its rows, and figures under a budget were measured so."""
    values = np.append(np.zeros(985), np.arange(15.0))
    assert len(table_of(values, 0, (0.0, 100.0), beyond=0).ranks) == 4


def test_a_rare_category_is_merged_in_schema_and_table(records: Records) -> None:
    frame = records.frame.copy()
    frame.loc[:5, "ward"], frame.loc[6:11, "ward"] = "tropical", "burns"
    schema, table = disclose(Records(frame, records.columns, records.positive), MINIMUM)
    (ward,) = (column for column in schema.columns if column.name == "ward")
    assert isinstance(ward, CategoricalColumn)
    assert set(ward.categories) == {"surgery", "medicine", "intensive care", MERGED}
    assert not {"tropical", "burns"} & set(table["ward"].dropna())


def test_too_small_a_group_is_refused(records: Records) -> None:
    frame = records.frame.copy()
    frame.loc[:3, "région"] = "west"
    with pytest.raises(PolicyRefusal, match="sensitive group"):
        disclose(Records(frame, records.columns, records.positive), MINIMUM)


def test_too_small_a_class_is_refused(records: Records) -> None:
    frame = records.frame.copy()
    frame["died"] = np.where(frame.index < 4, "1", "0")
    with pytest.raises(PolicyRefusal, match="class of the target"):
        disclose(Records(frame, records.columns, records.positive), MINIMUM)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(10, 40_000), min_size=2, max_size=64), st.integers(0, 63), st.data())
def test_shares_of_groups_tell_no_count_more_closely_than_to_ten(
    counts: list[int], place: int, data: st.DataObject
) -> None:
    place %= len(counts)
    other = list(counts)
    other[place] = data.draw(st.integers(max(10, tens(counts[place]) - 5), tens(counts[place]) + 4))
    assert shares(np.array(counts)) == shares(np.array(other))
    assert sum(shares(np.array(counts))) == pytest.approx(1.0, abs=1e-4)


def test_what_has_no_record_has_no_share() -> None:
    assert shares(np.array([500, 0, 3])) == [pytest.approx(50 / 51, abs=1e-6), 0.0, pytest.approx(1 / 51, abs=1e-6)]


@settings(max_examples=100, deadline=None)
@given(st.integers(10, 400), st.integers(10, 400), st.integers(0, 4), st.integers(0, 4))
def test_how_often_a_shared_value_occurs_is_told_to_ten(zeros: int, others: int, more: int, fewer: int) -> None:
    def table(zeros: int, others: int) -> list[float]:
        values = np.concatenate([np.zeros(zeros), np.full(others, 7.0)])
        return list(table_of(values, 0).ranks)

    zeros, others = tens(zeros), tens(others)
    assert table(zeros, others) == table(zeros + more, others - min(more, others - 10))
    assert table(zeros, others) == table(zeros, others + fewer)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=60, max_size=300, unique=True))
def test_no_point_of_a_table_moves_far_with_one_record(values: list[float]) -> None:
    ordered = np.sort(np.array(values))
    before = table_of(ordered, 9)
    moved = ordered.copy()
    moved[len(moved) // 2] = min(moved[len(moved) // 2] + 1e-3, moved[len(moved) // 2 + 1])
    after = table_of(moved, 9)
    assert np.abs(np.array(before.values) - np.array(after.values)).max() <= 1e-3 / MINIMUM + 1e-6


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.floats(0.0, 1.0))
def test_a_rate_is_published_only_if_it_and_its_complement_stand_for_ten(records: int, share: float) -> None:
    positive = round(share * records)
    published = publishable_rate(positive / records, records, MINIMUM)
    assert (published is None) == (positive < MINIMUM or records - positive < MINIMUM)
    assert published is None or published == round(positive / records, 2)


def test_a_few_gaps_cost_no_category_its_name() -> None:
    values = pd.Series(["yes"] * 120 + ["no"] * 177 + [None] * 3, dtype="str")
    assert rare_merged(values).value_counts(dropna=False).to_dict() == {"no": 180, "yes": 120}
    many = pd.Series(["a"] * 200 + ["b"] * 60 + ["c"] * 9 + ["d"] * 4 + [None] * 2, dtype="str")
    assert rare_merged(many).value_counts(dropna=False).to_dict() == {"a": 200, "b": 60, MERGED: 15}


@pytest.mark.parametrize("rare", [["yes"] * 4 + ["no"] * 596, [f"code {row % 150}" for row in range(600)]])
def test_a_column_of_which_nothing_is_left_is_refused_and_named(rare: list[str]) -> None:
    table = patients(600).assign(ward=rare)
    with pytest.raises(PolicyRefusal, match="every category but one") as refused:
        disclose(ingest(table, settings_for(table)), MINIMUM)
    assert refused.value.field == "ward"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("aaaaaaaabc"), min_size=40, max_size=200))
def test_what_is_left_of_a_column_beside_any_category_stands_for_ten_or_is_nothing(labels: list[str]) -> None:
    counts = rare_merged(pd.Series(labels, dtype="str")).value_counts(dropna=False)
    rest = len(labels) - counts
    assert ((rest == 0) | (rest >= MINIMUM)).all()


@pytest.mark.parametrize("unit", [1.0, 1e-6])
@pytest.mark.parametrize("offset", [20_190_000, 1_700_000_000])
def test_no_point_is_a_value_that_one_record_holds_however_far_from_zero(offset: int, unit: float) -> None:
    values = offset * unit + np.random.default_rng(0).choice(9_000, 600, replace=False) * unit
    table = table_of(values, 12)
    assert values.min() < table.values[0]
    assert table.values[-1] < values.max()
    assert len(set(table.values) & set(values)) <= 5, "means hit some by chance"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), min_size=60, max_size=200), st.integers(0, 99))
def test_the_minimum_holds_among_the_rows_that_are_counted(labels: list[str], seed: int) -> None:
    values = pd.Series(labels, dtype="str")
    counted = np.random.default_rng(seed).permutation(len(values))[: len(values) // 2]
    merged = merge_rare(values, MINIMUM, counted)
    found = merged.iloc[counted].value_counts(dropna=False)
    assert set(merged) <= set(found.index)
    assert (found >= MINIMUM).all()


def test_a_group_with_too_few_records_to_train_on_is_refused_or_merged_though_all_together_are_enough() -> None:
    table = patients()
    table.loc[: MINIMUM - 1, "région"] = "Corse"
    for small_groups in ("refuse", "merge"):
        found = settings_for(table, small_groups=small_groups)
        if small_groups == "refuse":
            with pytest.raises(PolicyRefusal, match="to train on"):
                fitting.split(table, found)
        else:
            training = fitting.split(table, found).training
            assert training["région"].value_counts().min() >= MINIMUM


def test_a_category_of_too_few_records_to_train_on_is_merged_though_all_together_are_enough() -> None:
    table = patients()
    table.loc[: MINIMUM - 1, "ward"] = "tropical"
    prepared = fitting.split(table, settings_for(table))
    assert prepared.training["ward"].value_counts().min() >= MINIMUM
    assert "tropical" not in {*prepared.training["ward"], *prepared.held_out["ward"]}


def test_one_record_does_not_decide_decimals_or_times_of_day() -> None:
    table = patients()
    for row in range(9):
        table.loc[row, "lactate"] = 2.123456 + row
        table.loc[row, "admitted"] += pd.Timedelta("1h")
    columns = {column.name: column for column in fitting.split(table, settings_for(table)).schema.columns}
    lactate, admitted = columns["lactate"], columns["admitted"]
    assert isinstance(lactate, NumericColumn)
    assert isinstance(admitted, NumericColumn)
    assert (lactate.decimals, admitted.unit) == (1, "D")


@pytest.mark.parametrize(("gaps", "optional"), [(9, False), (10, True)])
def test_a_few_gaps_beside_declared_categories_are_filled(records: Records, gaps: int, optional: bool) -> None:
    declared = ("surgery", "medicine", "intensive care")
    columns = tuple(
        dataclasses.replace(each, declared_categories=declared) if each.name == "ward" else each
        for each in records.columns
    )
    frame = records.frame.assign(ward=records.frame["ward"].fillna("surgery"))
    frame.loc[frame.index[:gaps], "ward"] = None
    schema, table = disclose(Records(frame, columns, records.positive), MINIMUM)
    (ward,) = (column for column in schema.columns if column.name == "ward")
    assert ward.optional is optional  # type: ignore[union-attr]
    assert bool(table["ward"].isna().any()) is optional


def declaring(table: pd.DataFrame, wards: tuple[str, ...]) -> OwnerSettings:
    found = settings_for(table)
    ward = found.columns["ward"].model_copy(update={"categories": wards})
    return found.model_copy(update={"columns": {**found.columns, "ward": ward}})


def test_rare_categories_are_merged_though_they_are_declared() -> None:
    table, wards = patients(), ("surgery", "medicine", "intensive care", "burns", "hospice", "nobody's")
    table.loc[table.index[:9], "ward"] = "burns"
    table.loc[table.index[20:30], "ward"] = "hospice"
    table.loc[table.index[40:55], "ward"] = None
    prepared = fitting.split(table, declaring(table, wards))
    (ward,) = (column for column in prepared.schema.columns if column.name == "ward")
    assert isinstance(ward, CategoricalColumn)
    assert ward.categories == ("surgery", "medicine", "intensive care", MERGED)
    assert not prepared.training["ward"].isin(["burns", "hospice"]).any()
    assert rarest_category(prepared.schema, prepared.training)[1] >= MINIMUM


def test_declared_categories_of_which_one_is_left_are_refused_before_training() -> None:
    table = patients().assign(ward=["medicine"] * 595 + ["hospice"] * 5)
    with pytest.raises(PolicyRefusal, match="every category but one") as caught:
        fitting.split(table, declaring(table, ("medicine", "hospice")))
    assert caught.value.field == "ward"


def test_with_a_budget_declared_categories_stay_as_they_are() -> None:
    table = patients().assign(ward=["medicine"] * 400 + ["surgery"] * 195 + ["hospice"] * 5)
    private = declaring(table, ("medicine", "surgery", "hospice")).model_copy(
        update={"privacy": PrivacySettings(epsilon=1.0)}
    )
    prepared = fitting.split(table, private)
    assert pd.concat([prepared.training, prepared.held_out])["ward"].value_counts()["hospice"] == 5


@pytest.mark.parametrize("rare", [47, 48])
def test_a_class_that_pooled_scores_would_count_among_the_held_out_is_refused(rare: int) -> None:
    table = patients(1000).assign(died=[1] * rare + [0] * (1000 - rare))
    settings_ = settings_for(table)
    if rare == 48:  # a fifth of it rounds to ten
        assert fitting.split(table, settings_).held_out["died"].value_counts()["1"] == 10
        return
    with pytest.raises(PolicyRefusal, match="among the held-out fifth") as caught:
        fitting.split(table, settings_)
    assert "join the rarest class" in caught.value.remedy


def test_a_gap_in_too_few_records_to_train_on_is_not_released(records: Records) -> None:
    frame = records.frame.assign(lactate=records.frame["lactate"].fillna(2.0))
    frame.loc[frame.index[:12], "lactate"] = np.nan
    gaps = Records(frame, records.columns, records.positive)
    for counted, optional in ((np.arange(600), True), (np.arange(5, 600), False)):
        schema, _ = disclose(gaps, 10, counted)
        assert {column.name: column for column in schema.columns}["lactate"].optional is optional  # type: ignore[union-attr]


def test_groups_whose_values_hold_slashes_have_names_of_their_own() -> None:
    pairs = [("a / b", "c"), ("a", "b / c"), ("a /", "/ c"), ("a", "c")] * 150
    site, shift = (pd.Series(part, dtype="str") for part in zip(*pairs, strict=True))
    table = patients().assign(site=site, shift=shift).drop(columns="région")
    found = infer(table, name="n", source="s", target="died", sensitive=("site", "shift"))
    schema, canonical = disclose(ingest(table, found), MINIMUM)
    assert len(group_rates(canonical, outcome(canonical, schema), schema)) == 4
    assert Group(values=("a", "c"), share=1.0).label == "a / c"
    assert Group(values=("n/a",), share=1.0).label == "n/a"


def test_a_name_of_many_columns_long_labels_is_fit_for_a_card() -> None:
    label = Group(values=("/" * LIMITS.name_characters,) * 20, share=1.0).label
    assert GroupAccuracy(label=label, synthetic=1.0, original=1.0).label == label
    assert GroupSize(label=label, records=10).label == label
