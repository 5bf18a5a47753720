"""Repaired targets: the label a record would have had, had its group not mattered (DESIGN section 2).

A record's score is moved to the Wasserstein barycentre of the groups' score distributions at the record's rank
within its own group (Jiang et al., arXiv 1907.12059), so ranks within groups stay and groups become alike.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from shared.codec import Layout, group_positions, positions
from shared.schema import Schema

FOLDS = 5
SHARPNESS = 2.0
"""Repaired probabilities are raised to this power: labels less noisy than recorded ones, which a model of x and s
finds again however well x tells them apart in each group."""

ROUNDS = 50
"""Scalings of sharpened probabilities, each of which brings the shares of the classes nearer to what they were."""

LEAST = 1e-6
"""No score is less than this before it is sharpened, however far it was moved."""

MOST_CATEGORIES = 255
"""The booster splits so many in any way, and more of them by their order."""


LEAST_TO_STOP = 3
"""Records of the rarest class. Above 10,000 rows the booster stops early by a stratified split, which needs two of each
class beside the one that a fold leaves out; a shadow's half may have fewer."""


def out_of_fold_scores(schema: Schema, table: pd.DataFrame, seed: int) -> NDArray[np.float64]:
    """P(y = c | x, s) for each record, from models that did not see it, (n, classes)."""
    matrix, is_categorical = _features(schema, table)
    target = positions(schema.target, table[schema.target.name])
    counts = np.bincount(target)
    model = HistGradientBoostingClassifier(
        max_iter=75,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        categorical_features=is_categorical,
        random_state=seed,
        early_stopping="auto" if int(counts[counts > 0].min()) >= LEAST_TO_STOP else False,
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    # one thread: on a busy machine OpenMP's waiting costs far more than a second thread brings
    with threadpool_limits(1, user_api="openmp"):
        found = cross_val_predict(model, matrix, target, cv=folds, method="predict_proba")
    scores = np.zeros((len(table), len(schema.target.categories)))
    scores[:, np.unique(target)] = found  # a half of the records may lack a class
    return scores


def _features(schema: Schema, table: pd.DataFrame) -> tuple[NDArray[np.float64], list[bool]]:
    """x and s as the booster takes them, (n, columns): numbers with their gaps, and numbered categories."""
    layout = Layout(schema)
    categorical = (*layout.categorical, *schema.sensitive)
    parts = [table[column.name].to_numpy(float, na_value=np.nan) for column in layout.numeric]
    parts += [positions(column, table[column.name]).astype(np.float64) for column in categorical]
    few = [len(column.categories) < MOST_CATEGORIES for column in categorical]
    return np.column_stack(parts), [False] * len(layout.numeric) + few


def barycentre(scores: NDArray[np.float64], groups: NDArray[np.int64], ties: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores (n,) of records in groups (n,) moved to the barycentre of the groups' distributions.

    q_i = Σ_c π_c Q_c(r_i), with r_i the record's rank within its group, from ½/n to 1 - ½/n and tied scores in the
    order of `ties` (n,), and Q_c the quantile function of c, in which a score has its own rank.
    """
    ranks = np.empty(len(scores))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order = np.lexsort((ties[members], scores[members]))
        ranks[members[order]] = (np.arange(len(members)) + 0.5) / len(members)
    moved = np.zeros(len(scores))
    for group in np.unique(groups):
        inside = groups == group
        moved += inside.mean() * np.quantile(scores[inside], ranks, method="hazen")
    return moved


def repaired_targets(schema: Schema, table: pd.DataFrame, strength: float, seed: int) -> NDArray[np.float64]:
    """Probability of each class for each record, (n, classes); rows add up to 1.

    `strength` 1 moves scores all the way to the barycentre, less moves them in proportion. A model of x and s that is
    trained on the labels mutes what s does to them, and more than 1 makes up for that.
    """
    groups = group_positions(schema, table)
    scores = out_of_fold_scores(schema, table, seed)
    ties = np.random.default_rng(seed).permutation(len(table))
    # who is first of equals by one class is last by the next: of two, scores stay one another's complement
    moved = np.column_stack(
        [barycentre(column, groups, ties if index % 2 else -ties) for index, column in enumerate(scores.T)]
    )
    return sharpened((scores + strength * (moved - scores)).clip(LEAST))


def sharpened(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (n, classes) made more decided, p_c^SHARPNESS · w_c, with w such that each class keeps its share.

    Without w a rare class would become rarer. w is found by scaling to the shares in turn (iterative proportional
    fitting).
    """
    rows = probabilities / probabilities.sum(1, keepdims=True)
    shares = rows.mean(0)
    decided = rows**SHARPNESS
    for _ in range(ROUNDS):
        decided /= decided.sum(1, keepdims=True)
        decided *= shares / decided.mean(0)
    return np.asarray(decided / decided.sum(1, keepdims=True))
