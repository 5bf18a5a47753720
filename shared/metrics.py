"""How results are measured (DESIGN section 6): fairness and utility on real rows, density and coverage, with
the ceiling and floor that stand beside every score. Tables are canonical."""

from __future__ import annotations

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from numpy.typing import NDArray
from prdc import prdc
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.model_selection import KFold, StratifiedKFold

from shared.codec import Layout, group_positions, positions
from shared.errors import BadInput
from shared.schema import CategoricalColumn, Schema
from shared.scores import Fidelity, Scores
from shared.table import drawn_rows

NEIGHBOURS = 5
EQUAL = 1e-6
"""Distance, as a share of how far out a row lies, below which another is its equal: rounding leaves some."""
FIDELITY_ROWS = 5000
PERMUTATIONS = 20
LEAST_JUDGED = 50
LEAST_COMPARED = 10
TREES, LEAST_LEAF = 100, 5
LARGE = 200
"""Held-out rows of a group that the gate also compares apart from smaller ones."""
OWN_FOLDS = 5
ROWS_PER_RECORD, MOST_ROWS = 16, 60_000
"""Synthetic rows a downstream model is trained on: so many for each training record, at most so many."""

RATES = {"selection": selection_rate, "true positive": true_positive_rate, "false positive": false_positive_rate}
"""Of a group of people."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

JUDGED_TOGETHER = (
    f"Groups with fewer than {LEAST_JUDGED} held-out rows are pooled; a pool under {LEAST_JUDGED} also takes the next "
    f"smallest group if that is at most twice its size, or if the pool is under {LEAST_COMPARED}; where fewer than "
    f"{LEAST_COMPARED} are left on either side nothing can be said, and all are one. "
)

PROTOCOL = (
    f"Trained on synthetic rows, tested on real held-out rows: random forest, {TREES} trees, min_samples_leaf "
    f"{LEAST_LEAF}, features x and s; {ROWS_PER_RECORD} synthetic rows for each training record, at most "
    f"{MOST_ROWS:,}, those of Fair4Free with groups halfway to equally often (generate --balanced). The schema "
    "(categories, quantile tables, group shares) is of all rows. "
    + JUDGED_TOGETHER
    + f"Large groups have {LARGE} held-out rows or more. With more than two classes ratios are means over those that "
    f"are predicted, each against the rest. Ceiling: the same predictions with s permuted, {PERMUTATIONS} times. "
    f"The constant classifier names the commonest class. Density and coverage (k = {NEIGHBOURS}) of as many synthetic "
    f"rows as training records, at most {4 * FIDELITY_ROWS:,}, against real held-out rows, at most {FIDELITY_ROWS:,}, "
    "on z-scored numbers and one-hot categories, target included; their ceiling is real training rows against the same."
)


def outcome(table: pd.DataFrame, schema: Schema) -> Integers:
    """1 where the target is the positive class, (n,); with more than two classes the others have other numbers."""
    return numbered(positions(schema.target, table[schema.target.name]), schema)


def numbered(found: Integers, schema: Schema) -> Integers:
    """Positions (n,) among the target's classes numbered as an `outcome` is."""
    positive, classes = schema.target.categories.index(schema.positive), len(schema.target.categories)
    if classes == 2:
        return (found == positive).astype(np.int64)
    return np.where(found == positive, 1, np.where(found == 1, positive, found))


def random_forest(seed: int) -> RandomForestClassifier:
    """The downstream model of the protocol."""
    return RandomForestClassifier(TREES, min_samples_leaf=LEAST_LEAF, random_state=seed, n_jobs=-1)


def downstream_rows(records: int) -> int:
    """Synthetic rows that stand in for so many training records."""
    return min(MOST_ROWS, ROWS_PER_RECORD * records)


def predict(train: pd.DataFrame, test: pd.DataFrame, schema: Schema, model: ClassifierMixin) -> Integers:
    """What `model`, trained on `train`, predicts for `test`, (n,): 1 is the positive class.

    A class of a single row is left out: nothing is learned of it, and boosting cannot hold a part of it out.
    """
    truth = outcome(train, schema)
    classes, counts = np.unique(truth, return_counts=True)
    several = classes[counts > 1]
    if len(several) < 2:
        return np.full(len(test), classes[counts.argmax()])
    learned = np.isin(truth, several)
    model.fit(design_matrix(train[learned], schema), truth[learned])
    return np.asarray(model.predict(design_matrix(test, schema)), np.int64)


def score(truth: Integers, predicted: Integers, groups: Integers, classes: int = 2) -> Scores:
    """Scores of 0/1 arrays (n,) in groups (n,); 1 is the positive class. A ratio of 0 to 0 counts as 1.

    With more classes, each against the rest: their mean, but for accuracy, over the classes that somebody has or is
    said to have. Ratios are means over the latter alone: what nobody is said to be would count as a fair one.
    """
    if classes > 2:
        known = np.union1d(truth, predicted)
        each = {index: score(_is(truth, index), _is(predicted, index), groups) for index in known}
        said = Scores.mean([each[index] for index in np.unique(predicted)])
        ratios = {name: getattr(said, name) for name in ("demographic_parity_ratio", "equalized_odds_ratio")}
        return Scores.mean(list(each.values())).model_copy(
            update=ratios | {"accuracy": accuracy_score(truth, predicted)}
        )
    rates = MetricFrame(metrics=RATES, y_true=truth, y_pred=predicted, sensitive_features=groups).by_group
    recorded = pd.Series(truth).groupby(groups)
    # a group has a rate where somebody has that class: fairlearn counts one without for 0
    positive, negative = rates["true positive"][recorded.max() == 1], rates["false positive"][recorded.min() == 0]
    return Scores(
        demographic_parity_ratio=_ratio(rates["selection"]),
        equalized_odds_ratio=min(_ratio(positive), _ratio(negative)),
        accuracy=accuracy_score(truth, predicted),
        recall=recall_score(truth, predicted, zero_division=0.0),
        f1=f1_score(truth, predicted, zero_division=0.0),
    )


def scores(test: pd.DataFrame, predicted: Integers, schema: Schema, *, large: bool = False) -> Scores:
    """Between all judged groups, or the large ones."""
    groups = judged_groups(group_positions(schema, test))
    return _score_between(outcome(test, schema), predicted, groups, len(schema.target.categories), large)


def out_of_fold(rows: pd.DataFrame, schema: Schema) -> Integers:
    """What is predicted of each of five folds by a forest trained on the others, (n,); of too few rows the commonest
    class."""
    truth = outcome(rows, schema)
    _, counts = np.unique(truth, return_counts=True)
    if len(rows) < OWN_FOLDS:
        return np.full(len(rows), np.bincount(truth).argmax())
    folds = StratifiedKFold if counts.min() >= OWN_FOLDS else KFold
    predicted = np.empty(len(rows), np.int64)
    for train, test in folds(OWN_FOLDS, shuffle=True, random_state=0).split(rows, truth):
        predicted[test] = predict(rows.iloc[train], rows.iloc[test], schema, random_forest(0))
    return predicted


def judged_groups(groups: Integers) -> Integers:
    """Groups (n,) with the small ones pooled as -1: a ratio over a dozen rows measures chance.

    The largest group never joins, or nobody would be left to compare with. Where fewer than `LEAST_COMPARED` rows are
    left on either side nothing can be said, and all are one.
    """
    labels, counts = np.unique(groups, return_counts=True)
    order = np.argsort(counts, kind="stable")
    pooled, total = [], 0
    for index in order[:-1]:
        if not _joins(int(counts[index]), total):
            break
        pooled.append(labels[index])
        total += int(counts[index])
    if total and min(total, counts.max()) < LEAST_COMPARED:
        return np.full_like(groups, -1)
    return np.where(np.isin(groups, pooled), -1, groups) if len(pooled) > 1 else groups


def _joins(size: int, pool: int) -> bool:
    """Whether a group joins the pool of smaller ones: if it is small itself, or the pool still is, and would not be
    hidden in a group more than twice as large; of fewer than `LEAST_COMPARED` rows nothing could be said anyway."""
    if size < LEAST_JUDGED:
        return True
    return 0 < pool < LEAST_JUDGED and (size <= 2 * pool or pool < LEAST_COMPARED)


def by_chance(
    test: pd.DataFrame, predicted: Integers, schema: Schema, seed: int, *, large: bool = False
) -> list[Scores]:
    """`scores` of the same predictions with s permuted, `PERMUTATIONS` times: what chance makes of a perfectly fair
    model. The permutations are a seed's."""
    truth, groups = outcome(test, schema), judged_groups(group_positions(schema, test))
    generator = np.random.default_rng(seed)
    classes = len(schema.target.categories)
    permuted = (generator.permutation(groups) for _ in range(PERMUTATIONS))
    return [_score_between(truth, predicted, each, classes, large) for each in permuted]


def has_large_and_small(groups: Integers) -> bool:
    """Whether two of judged groups (n,) or more have `LARGE` rows, and others fewer."""
    sizes = np.unique(groups, return_counts=True)[1]
    return 2 <= (sizes >= LARGE).sum() < len(sizes)


def _score_between(truth: Integers, predicted: Integers, groups: Integers, classes: int, large: bool) -> Scores:
    labels, counts = np.unique(groups, return_counts=True)
    chosen = np.isin(groups, labels[counts >= (LARGE if large else 0)])
    return score(truth[chosen], predicted[chosen], groups[chosen], classes)


def ceiling(test: pd.DataFrame, predicted: Integers, schema: Schema, seed: int) -> Scores:
    """Mean of `by_chance`."""
    return Scores.mean(by_chance(test, predicted, schema, seed))


def floor(test: pd.DataFrame, schema: Schema) -> Scores:
    """The constant classifier of the commoner class."""
    truth = outcome(test, schema)
    constant = np.full(len(truth), np.bincount(truth).argmax())
    return score(truth, constant, judged_groups(group_positions(schema, test)), len(schema.target.categories))


def design_matrix(table: pd.DataFrame, schema: Schema, *, with_target: bool = False) -> Floats:
    """Features x and s, (n, width): numbers (missing as the median of the schema, with a flag), one-hot categories."""
    parts = []
    for column in Layout(schema).numeric:
        values = table[column.name].to_numpy(float)
        missing = np.isnan(values)
        parts.append(np.where(missing, np.interp(0.5, column.quantiles.ranks, column.quantiles.values), values))
        if column.optional:
            parts.append(missing.astype(float))
    for categorical in _categorical(schema, with_target):
        width = len(categorical.categories) + categorical.optional
        parts.extend(np.eye(width)[positions(categorical, table[categorical.name])].T)
    return np.stack(parts, 1)


def density_coverage(real: pd.DataFrame, other: pd.DataFrame, schema: Schema, seed: int) -> Fidelity:
    """Of `other` against `real`, on at most `FIDELITY_ROWS` real and four times as many other rows, drawn by seed."""
    generator = np.random.default_rng(seed)
    points = design_matrix(drawn_rows(real, FIDELITY_ROWS, generator), schema, with_target=True)
    others = design_matrix(drawn_rows(other, 4 * FIDELITY_ROWS, generator), schema, with_target=True)
    numeric = _numeric_width(schema)
    centre, spread = points[:, :numeric].mean(0), points[:, :numeric].std(0)
    spread[points[:, :numeric].max(0) == points[:, :numeric].min(0)] = 1.0  # not by a spread of 0: rounding leaves some
    for matrix in (points, others):
        matrix[:, :numeric] = (matrix[:, :numeric] - centre) / spread
    return nearness(points, others)


def nearness(points: Floats, others: Floats) -> Fidelity:
    """Density and coverage of `others` (m, d) against the real `points` (n, d), k = 5, or n - 2 if that is less.

    A point that k real ones equal has a ball of no size, in which prdc finds nobody: its equals are counted there, and
    against as many as are real. Raises `BadInput` for fewer than three real points.
    """
    neighbours = min(NEIGHBOURS, len(points) - 2)
    if neighbours < 1:
        raise BadInput("too few real rows for density and coverage", field="rows", remedy="give more of them")
    # compute_prdc also relates the other rows to each other, for recall: sixteen times the work
    among, distances = prdc.compute_pairwise_distance(points), prdc.compute_pairwise_distance(points, others)
    radii = prdc.get_kth_value(among, neighbours + 1)
    equal = EQUAL * np.maximum(np.linalg.norm(points, axis=1), 1.0)
    of_equals = radii < equal
    expected = np.where(of_equals, (among < equal[:, None]).sum(1) - 1, neighbours)
    inside = distances < np.maximum(radii, equal)[:, None]
    return Fidelity(density=float((inside.mean(1) / expected).sum()), coverage=float(inside.any(1).mean()))


def group_rates(table: pd.DataFrame, positive: Integers, schema: Schema) -> dict[str, float]:
    """Share of ones (n,) in each group, by label; groups without rows are left out."""
    groups = group_positions(schema, table)
    return {
        group.label: float((positive[groups == index] == 1).mean())
        for index, group in enumerate(schema.groups)
        if (groups == index).any()
    }


def _categorical(schema: Schema, with_target: bool) -> tuple[CategoricalColumn, ...]:
    columns = (*Layout(schema).categorical, *schema.sensitive)
    return (*columns, schema.target) if with_target else columns


def _numeric_width(schema: Schema) -> int:
    return sum(1 + column.optional for column in Layout(schema).numeric)


def _ratio(rates: pd.Series) -> float:
    """The lowest over the highest; 1 where nobody has a rate, or all have 0."""
    return float(rates.min() / rates.max()) if rates.max() > 0.0 else 1.0


def _is(values: Integers, index: int) -> Integers:
    return (values == index).astype(np.int64)
