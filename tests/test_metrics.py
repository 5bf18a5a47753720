"""The measures against hand-counted figures and slow, simple versions of themselves."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import ClassifierMixin

from data_owner.benchmark.cells import boosting, synthetic_only
from data_owner.learning import fitting
from data_owner.measure import measure, reference
from data_owner.records.disclosure import disclose, tens
from data_owner.records.infer import infer
from data_owner.records.ingest import ingest
from data_owner.release_gate import checks, failures, fairness, refused_by_chance
from data_owner.settings import Floors, Policy
from shared.card import Check
from shared.codec import group_positions
from shared.errors import BadInput
from shared.metrics import (
    by_chance,
    ceiling,
    density_coverage,
    design_matrix,
    floor,
    has_large_and_small,
    judged_groups,
    nearness,
    outcome,
    predict,
    random_forest,
    score,
    scores,
)
from shared.schema import Group, Schema
from shared.scores import Fidelity, Judgement, Scores
from shared.student import StudentSettings
from tests.conftest import QUICK, patients, settings_for

Disclosed = tuple[Schema, pd.DataFrame]


def test_scores_are_the_hand_counted_ones() -> None:
    #          group 0: 4 people, 2 selected | group 1: 4 people, 1 selected
    truth = np.array([1, 1, 0, 0, 1, 1, 0, 0])
    predicted = np.array([1, 0, 1, 0, 1, 0, 0, 0])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = score(truth, predicted, groups)
    assert found.demographic_parity_ratio == pytest.approx(0.25 / 0.5)
    # true positive rates 1/2 and 1/2; false positive rates 1/2 and 0
    assert found.equalized_odds_ratio == pytest.approx(0.0)
    assert found.accuracy == pytest.approx(5 / 8)
    assert found.recall == pytest.approx(2 / 4)
    assert found.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))


def test_a_rate_that_nobody_has_does_not_hide_the_other() -> None:
    truth = np.zeros(180, np.int64)
    groups = np.repeat([0, 1], 90)
    predicted = np.concatenate([np.arange(90) < 40, np.arange(90) < 5]).astype(np.int64)
    assert score(truth, predicted, groups).equalized_odds_ratio == pytest.approx(5 / 40)


def test_rows_of_one_class_say_nothing_of_their_own_consistency(disclosed: Disclosed) -> None:
    schema, table = disclosed
    few = table[table["died"] == schema.positive].head(3)
    rows = pd.concat([table[table["died"] != schema.positive], few], ignore_index=True)
    found = synthetic_only(rows, schema)
    assert (found.recall, found.accuracy) == (0.0, pytest.approx(1 - 3 / len(rows)))


def test_a_rare_class_does_not_make_rows_inconsistent_with_themselves(disclosed: Disclosed) -> None:
    schema, table = disclosed
    rows = table.assign(died=np.where(table["age"] > 60, "1", "0"))
    few = rows[rows["died"] == "1"].head(4)
    found = synthetic_only(pd.concat([rows[rows["died"] == "0"], few], ignore_index=True), schema)
    assert found.accuracy > 0.9


def test_many_classes_are_scored_one_against_the_rest() -> None:
    draw = np.random.default_rng(0)
    truth, groups = draw.integers(0, 3, 300), draw.integers(0, 2, 300)
    predicted = np.where(draw.random(300) < 0.7, truth, draw.integers(0, 3, 300))
    found = score(truth, predicted, groups, 3)
    each = [score((truth == one).astype(int), (predicted == one).astype(int), groups) for one in range(3)]
    for name in ("demographic_parity_ratio", "equalized_odds_ratio", "recall", "f1"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(one, name) for one in each]))
    assert found.accuracy == pytest.approx((truth == predicted).mean())


def test_a_class_that_nobody_is_predicted_to_be_is_not_one_of_fair_predictions() -> None:
    groups = np.repeat([0, 1], 100)
    truth = np.arange(200) % 3
    predicted = np.concatenate([np.arange(100) < 40, np.arange(100) < 10]).astype(np.int64)
    two = score(truth, predicted, groups, 3)
    assert two.demographic_parity_ratio == pytest.approx((10 / 40 + 60 / 90) / 2)
    assert score(truth, predicted, groups, 9).equalized_odds_ratio == two.equalized_odds_ratio < 0.6
    assert score(truth, np.zeros(200, np.int64), groups, 3).demographic_parity_ratio == 1.0


def test_a_table_of_three_classes_is_trained_on_and_measured() -> None:
    table = patients()
    table["died"] = np.where(table["died"] == 1, "yes", np.where(table["age"] > 60, "unknown", "no"))
    settings = infer(table, name="n", source="s", target="died", sensitive=("région",))
    prepared = fitting.split(table, settings)
    assert prepared.schema.positive == "yes"
    found = fitting.artefacts(prepared.schema, fitting.fit(prepared, settings.training, QUICK))
    student = StudentSettings(steps=100)
    measured = measure(*reference(found, student), prepared.training, prepared.held_out, settings)
    assert set(measured.synthetic["died"]) == {"yes", "no", "unknown"}
    positive = outcome(measured.synthetic, prepared.schema) == 1
    assert positive.tolist() == (measured.synthetic["died"] == "yes").tolist()
    assert measured.card.original.accuracy > measured.card.floor.accuracy


def test_a_constant_classifier_is_fair_and_useless() -> None:
    found = score(np.array([0, 1, 0, 1]), np.zeros(4, np.int64), np.array([0, 0, 1, 1]))
    assert (found.demographic_parity_ratio, found.equalized_odds_ratio, found.recall) == (1.0, 1.0, 0.0)


def test_density_and_coverage_are_those_of_the_definition(disclosed: Disclosed) -> None:
    """Naeem et al. 2020, equations 6 and 7, by plain loops."""
    schema, table = disclosed
    real, other = table.iloc[:120], table.iloc[200:330]
    points = design_matrix(real, schema, with_target=True)
    others = design_matrix(other, schema, with_target=True)
    numeric = [0, 1, 2, 4]  # age, days in ward, lactate with its flag at 3, admitted
    centre, spread = points.mean(0), points.std(0)
    for matrix in (points, others):
        for column in [*numeric, 3]:
            matrix[:, column] = (matrix[:, column] - centre[column]) / spread[column]
    radii = [np.sort(np.linalg.norm(points - point, axis=1))[5] for point in points]
    inside = np.array(
        [
            [np.linalg.norm(point - each) < radius for each in others]
            for point, radius in zip(points, radii, strict=True)
        ]
    )
    found = density_coverage(real, other, schema, seed=0)
    assert found.density == pytest.approx(inside.sum() / (5 * len(others)))
    assert found.coverage == pytest.approx(inside.any(1).mean())


def test_rows_far_away_have_no_density_and_no_coverage(disclosed: Disclosed) -> None:
    schema, table = disclosed
    far = table.assign(age=table["age"] + 1e6)
    assert density_coverage(table, far, schema, seed=0) == Fidelity(density=0.0, coverage=0.0)


def test_of_rows_with_many_equals_real_ones_are_denser_than_any_made_without_looking() -> None:
    """Eight columns of two values: a ball without a size holds nobody in prdc, and what is rare would look best."""
    draw = np.random.default_rng(0)
    shares = np.array([0.1, 0.2, 0.3, 0.5, 0.4, 0.15, 0.5, 0.3])
    first, second = ((draw.random((rows, 8)) < shares).astype(float) for rows in (1000, 2000))
    real, chance = nearness(first, second), nearness(first, (draw.random((2000, 8)) < 0.5).astype(float))
    assert real.density > 0.7 > 0.5 > chance.density
    assert real.coverage > 0.95


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_copies_of_the_real_rows_are_as_dense_as_they_where_all_have_equals(scale: float) -> None:
    """However far out they lie, where rounding leaves more of a distance between copies."""
    points = np.repeat(np.random.default_rng(0).normal(0.0, scale, (20, 40)), 50, axis=0)
    found = nearness(points, points)
    assert found.density == pytest.approx(50 / 49)
    assert found.coverage == 1.0


@pytest.mark.parametrize("constant", [0.1, 0.25, 98.6])
def test_a_column_that_is_constant_among_real_rows_decides_nothing_beside_the_others(
    disclosed: Disclosed, constant: float
) -> None:
    """Its spread is not 0 where rounding leaves some."""
    schema, table = disclosed
    real = table.assign(**{"days in ward": constant})
    other = real.assign(**{"days in ward": constant + 0.001})
    found = density_coverage(real, other, schema, seed=0)
    assert found == density_coverage(real, real, schema, seed=0)


@pytest.mark.parametrize("rows", [3, 4, 5, 6, 7])
def test_density_and_coverage_of_few_points_look_at_fewer_neighbours(rows: int) -> None:
    points = np.random.default_rng(0).normal(size=(rows, 2))
    assert nearness(points, points).coverage == 1.0


@pytest.mark.parametrize("rows", [1, 2])
def test_density_and_coverage_of_one_or_two_points_are_refused(rows: int) -> None:
    with pytest.raises(BadInput, match="too few real rows"):
        nearness(np.zeros((rows, 2)), np.zeros((9, 2)))


def test_a_class_that_nobody_has_or_is_said_to_have_lowers_no_score() -> None:
    truth, groups = np.array([0, 1] * 20), np.repeat([0, 1], 20)
    assert score(truth, truth, groups, classes=3) == score(truth, truth, groups)


def test_the_ceiling_keeps_accuracy_and_forgets_the_group(disclosed: Disclosed) -> None:
    schema, table = disclosed
    unfair = (table["région"] == "south").to_numpy().astype(np.int64)
    own, best = scores(table, unfair, schema), ceiling(table, unfair, schema, seed=0)
    assert own.demographic_parity_ratio == 0.0
    assert best.demographic_parity_ratio > 0.7
    assert best.accuracy == pytest.approx(own.accuracy)
    assert floor(table, schema).demographic_parity_ratio == 1.0


def test_the_forest_learns_from_features_and_group() -> None:
    many = patients(3000)
    schema, table = disclose(ingest(many, settings_for(many)), 10)
    train, test = table.iloc[:2000], table.iloc[2000:]
    accuracy = scores(test, predict(train, test, schema, random_forest(0)), schema).accuracy
    assert accuracy > floor(test, schema).accuracy
    constant = train.assign(died="0")
    assert predict(constant, test, schema, random_forest(0)).tolist() == [0] * len(test)


@pytest.mark.parametrize("model", [random_forest, boosting])
def test_one_positive_row_among_thousands_teaches_nothing_and_fails_no_model(
    disclosed: Disclosed, model: Callable[[int], ClassifierMixin]
) -> None:
    schema, table = disclosed
    collapsed = pd.concat([table.assign(died="0")] * 20, ignore_index=True)
    assert len(collapsed) > 10_000, "boosting holds a part out of so many"
    collapsed.loc[7, "died"] = "1"
    assert predict(collapsed, table, schema, model(0)).tolist() == [0] * len(table)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
def test_only_small_groups_are_judged_together(sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    judged = judged_groups(groups)
    found = [np.unique(judged[groups == label]) for label in range(len(sizes))]
    assert all(len(each) == 1 for each in found)
    *others, largest = sorted(sizes)
    if min(sum(others), largest) < 10:
        assert len(np.unique(judged)) == 1
        return
    pool = sorted(size for size, label in zip(sizes, found, strict=True) if label[0] == -1)
    pool = pool or [size for size in others if size < 50]
    alone = others[len(pool) :]
    assert pool == others[: len(pool)]
    assert all(size >= 50 for size in alone)
    if pool and pool[-1] >= 50:  # one that is not small came to the small ones, who stay to be seen
        assert 0 < sum(pool[:-1]) < 50
        assert pool[-1] <= 2 * sum(pool[:-1]) or sum(pool[:-1]) < 10
    if alone and 0 < sum(pool) < 50:
        assert alone[0] > 2 * sum(pool) >= 20


@pytest.mark.parametrize("sizes", [(1000, 12), (1000, 900, 12), (1000, 900, 45), (1000, 900, 30, 15), (1000, 99, 45)])
def test_a_small_group_is_not_hidden_in_a_large_one(sizes: tuple[int, ...]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    selected = (np.repeat(sizes, sizes) >= 50).astype(np.int64)
    assert score(np.ones(len(groups), np.int64), selected, judged_groups(groups)).demographic_parity_ratio == 0.0


def test_what_is_missing_counts_alike_whatever_stands_beside_it(disclosed: Disclosed) -> None:
    schema, table = disclosed
    whole = design_matrix(table, schema)
    parts = [design_matrix(table.iloc[start : start + 50], schema) for start in range(0, len(table), 50)]
    assert table["lactate"].isna().any()
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_outcome_is_one_for_the_positive_class(disclosed: Disclosed) -> None:
    schema, table = disclosed
    assert outcome(table, schema).tolist() == (table["died"] == "1").astype(int).tolist()


GOOD = Scores(demographic_parity_ratio=0.9, equalized_odds_ratio=0.9, accuracy=0.8, recall=0.7, f1=0.7)
REAL = Fidelity(density=0.95, coverage=0.99)


def checked(policy: Policy, **change: object) -> tuple[Check, ...]:
    values: dict[str, object] = {
        "smallest_group": 40,
        "rarest": ("ward", 12),
        "criterion": "parity",
        "judged": 2,
        "large": None,
        **dict.fromkeys(("synthetic", "original", "ceiling", "floor"), GOOD),
        **dict.fromkeys(("fidelity", "fidelity_ceiling"), REAL),
        **change,
    }
    judgement = Judgement(**{name: values.pop(name) for name in Judgement.model_fields})  # type: ignore[arg-type]
    return checks(policy, judgement=judgement, **values)  # type: ignore[arg-type]


def gate(**change: object) -> tuple[str, ...]:
    return failures(checked(Policy(), **change))


def test_the_gate_passes_what_is_within_the_policy() -> None:
    assert gate() == ()


def test_the_gate_holds_nothing_to_a_count_where_nobody_is_behind_it() -> None:
    assert gate(smallest_group=None, rarest=None) == ()


def test_the_gate_passes_nothing_where_there_is_nothing_to_compare_with() -> None:
    nothing = GOOD.model_copy(update={"demographic_parity_ratio": 0.0, "equalized_odds_ratio": 0.0, "f1": 0.0})
    said = gate(synthetic=nothing, original=nothing, ceiling=nothing)
    assert [line.split(",")[0] for line in said] == ["demographic parity", "equalized odds", "F1"]


@pytest.mark.parametrize(("small", "refused"), [(12, range(2, 15)), (1_000, range(1))])
def test_what_chance_would_have_refused_is_of_small_groups(small: int, refused: range) -> None:
    draw = np.random.default_rng(0)
    truth, predicted = (draw.random(2_000) < 0.25).astype(int), (draw.random(2_000) < 0.25).astype(int)
    group = (np.arange(2_000) < small).astype(int)
    permuted = [score(truth, predicted, draw.permutation(group)) for _ in range(20)]
    floors = Floors(criterion_of_ceiling=0.7, other_ratio_of_ceiling=0.0)
    assert refused_by_chance(floors, "parity", permuted) in refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"smallest_group": 9}, "smallest sensitive group"),
        ({"rarest": ("ward", 9)}, "of ward is 9, the policy asks for 10"),
        ({"judged": 1}, "enough held-out records to compare"),
        ({"synthetic": GOOD.model_copy(update={"demographic_parity_ratio": 0.7})}, "demographic parity"),
        ({"synthetic": GOOD.model_copy(update={"equalized_odds_ratio": 0.2})}, "equalized odds"),
        ({"synthetic": GOOD.model_copy(update={"equalized_odds_ratio": 0.7}), "criterion": "odds"}, "equalized odds"),
        (
            {"synthetic": GOOD.model_copy(update={"demographic_parity_ratio": 0.7167})},
            "is 0.7963, the policy asks for 0.8",
        ),
        ({"synthetic": GOOD.model_copy(update={"accuracy": 0.7})}, "accuracy"),
        ({"synthetic": GOOD.model_copy(update={"f1": 0.4})}, "F1"),
        ({"original": GOOD.model_copy(update={"f1": 0.0})}, "no positive case is found"),
        ({"large": (GOOD.model_copy(update={"demographic_parity_ratio": 0.7}), GOOD)}, "parity between large groups"),
        ({"large": (GOOD.model_copy(update={"equalized_odds_ratio": 0.2}), GOOD)}, "odds between large groups"),
        ({"fidelity": Fidelity(density=0.5, coverage=0.99)}, "density"),
        ({"fidelity": Fidelity(density=0.9, coverage=0.6)}, "coverage"),
    ],
)
def test_the_gate_names_each_line_that_fails(change: dict[str, object], said: str) -> None:
    (failure,) = gate(**change)
    assert said in failure


def test_small_groups_do_not_hide_what_lies_between_large_ones(disclosed: Disclosed) -> None:
    schema, table = disclosed
    names = list("abcdefghij")
    renamed = schema.sensitive[0].model_copy(update={"categories": tuple(names)})
    columns = tuple(renamed if column.name == renamed.name else column for column in schema.columns)
    groups = tuple(Group(values=(name,), share=0.1) for name in names)
    schema = schema.model_copy(update={"columns": columns, "groups": groups})
    draw = np.random.default_rng(0)
    region = np.repeat(names, [2_000, 2_000, *[50] * 8])
    test = table.iloc[draw.integers(len(table), size=len(region))].assign(**{renamed.name: region})
    predicted = (draw.random(len(region)) < np.where(region == "b", 0.30, 0.18)).astype(np.int64)
    every, large = (
        fairness(Floors(), "parity", scores(test, predicted, schema, large=of_large), Scores.mean(chance))[0]
        for of_large, chance in ((each, by_chance(test, predicted, schema, 0, large=each)) for each in (False, True))
    )
    assert has_large_and_small(judged_groups(group_positions(schema, test)))
    assert every.passed, "eight groups of fifty differ as much by chance"
    assert not large.passed
    assert not has_large_and_small(np.repeat([0, 1], [2_000, 50])), "of one large group nothing can be said"
    assert not has_large_and_small(np.repeat([0, 1], [2_000, 2_000])), "nothing more than between all"


def test_the_ratio_that_the_criterion_does_not_aim_at_may_give_way() -> None:
    for ratio, criterion in (("equalized_odds_ratio", "parity"), ("demographic_parity_ratio", "odds")):
        assert gate(synthetic=GOOD.model_copy(update={ratio: 0.5}), criterion=criterion) == ()


@given(st.sampled_from([10, 14, 20]), st.integers(0, 40), st.integers(0, 1000))
def test_a_check_passes_by_its_own_figure_or_fails_by_it_and_one_that_passes_is_coarse(
    required: int, count: int, mille: int
) -> None:
    policy = Policy(minimum_count=required, floors=Floors(accuracy_of_original=0.795))
    scores = (GOOD.model_copy(update={"accuracy": each}) for each in (mille / 1000, 1.0))
    found = checked(policy, smallest_group=count, judged=3, **dict(zip(("synthetic", "original"), scores, strict=True)))
    size, _, groups = found[:3]
    (accuracy,) = (each for each in found if each.name.startswith("accuracy"))
    for check, coarse in ((size, tens(count)), (accuracy, round(mille / 1000, 2))):
        assert (check.measured >= check.required) == check.passed
        if check.passed:
            assert check.measured in {check.required, coarse}
    assert (size.required, groups.measured, groups.required) == (required, 3, 2)
    assert all(isinstance(each, int) for each in (size.measured, groups.measured)), "counts are whole"


def test_a_gate_that_checked_nothing_has_failed() -> None:
    assert failures(()) == ("nothing was checked",)


def test_a_group_that_has_no_positives_has_no_part_in_their_rate() -> None:
    truth, predicted = np.array([1, 1, 0, 0] * 50), np.array([1, 0, 1, 0] * 50)
    groups = np.arange(200) % 2
    alike = score(truth, predicted, groups).equalized_odds_ratio
    without = np.concatenate([truth, np.zeros(60, np.int64)]), np.concatenate([predicted, np.arange(60) % 2])
    assert score(*without, np.concatenate([groups, np.full(60, 2)])).equalized_odds_ratio == alike
