"""Interventions of fairlearn that train on the records themselves: no synthetic rows, no boundary."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.preprocessing import CorrelationRemover
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from data_owner.benchmark.systems import Fold, Unsuitable
from shared.codec import group_positions
from shared.metrics import Floats, Integers, design_matrix, outcome

FOLDS = 5


def correlation_remover(fold: Fold, model: ClassifierMixin) -> Integers:
    """Features with their linear correlation with the groups removed."""
    train, test = _features(fold, fold.training), _features(fold, fold.held_out)
    sensitive = [name for name in train if str(name).startswith("group ")]
    remover = CorrelationRemover(sensitive_feature_ids=sensitive)
    model.fit(remover.fit_transform(train), outcome(fold.training, fold.schema))
    return np.asarray(model.predict(remover.transform(test)), np.int64)


def threshold_optimizer_parity(fold: Fold, model: ClassifierMixin) -> Integers:
    return _threshold_optimizer(fold, model, "demographic_parity")


def threshold_optimizer_odds(fold: Fold, model: ClassifierMixin) -> Integers:
    return _threshold_optimizer(fold, model, "equalized_odds")


def _threshold_optimizer(fold: Fold, model: ClassifierMixin, constraint: str) -> Integers:
    """Thresholds by group, drawn at random where two are mixed (Hardt et al. 2016).

    They are fitted to out-of-fold scores: a forest's scores of what it was trained on are too sure.
    """
    train, test = (group_positions(fold.schema, table) for table in (fold.training, fold.held_out))
    truth = outcome(fold.training, fold.schema)
    if any(truth[train == index].min() == truth[train == index].max() for index in np.unique(train)):
        raise Unsuitable("a group of the training fold has one class only")
    features = design_matrix(fold.training, fold.schema)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=fold.seed)
    fitted_to = cross_val_predict(clone(model), features, truth, cv=folds, method="predict_proba")
    optimizer = ThresholdOptimizer(estimator=_Scores(), constraints=constraint, predict_method="predict_proba")
    optimizer.fit(fitted_to, truth, sensitive_features=train)
    scores = model.fit(features, truth).predict_proba(design_matrix(fold.held_out, fold.schema))
    return np.asarray(optimizer.predict(scores, sensitive_features=test, random_state=fold.seed), np.int64)


class _Scores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose features are its own probabilities, (n, 2)."""

    def fit(self, scores: Floats, truth: Integers) -> Self:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, scores: Floats) -> Floats:
        return scores


def _features(fold: Fold, table: pd.DataFrame) -> pd.DataFrame:
    """x as the protocol's matrix, and the groups one-hot but for the last."""
    matrix: Floats = design_matrix(table, fold.schema)
    widths = sum(len(column.categories) + column.optional for column in fold.schema.sensitive)
    frame = pd.DataFrame(matrix[:, :-widths]).add_prefix("x ")
    group = group_positions(fold.schema, table)
    for index in range(len(fold.schema.groups) - 1):
        frame[f"group {index}"] = (group == index).astype(float)
    return frame
