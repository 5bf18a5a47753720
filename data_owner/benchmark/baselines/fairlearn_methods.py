"""Interventions of fairlearn that train on the records themselves: no synthetic rows, no boundary."""

from __future__ import annotations

import numpy as np
import pandas as pd
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.preprocessing import CorrelationRemover
from sklearn.base import ClassifierMixin

from data_owner.benchmark.systems import Fold, Unsuitable
from shared.codec import group_positions
from shared.metrics import Floats, Integers, design_matrix, outcome


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
    """Thresholds by group, drawn at random where two are mixed (Hardt et al. 2016)."""
    train, test = (group_positions(fold.schema, table) for table in (fold.training, fold.held_out))
    truth = outcome(fold.training, fold.schema)
    if any(truth[train == index].min() == truth[train == index].max() for index in np.unique(train)):
        raise Unsuitable("a group of the training fold has one class only")
    optimizer = ThresholdOptimizer(estimator=model, constraints=constraint, predict_method="predict_proba")
    optimizer.fit(design_matrix(fold.training, fold.schema), truth, sensitive_features=train)
    features = design_matrix(fold.held_out, fold.schema)
    predicted = optimizer.predict(features, sensitive_features=test, random_state=fold.seed)
    return np.asarray(predicted, np.int64)


def _features(fold: Fold, table: pd.DataFrame) -> pd.DataFrame:
    """x as the protocol's matrix, and the groups one-hot but for the last."""
    matrix: Floats = design_matrix(table, fold.schema)
    widths = sum(len(column.categories) + column.optional for column in fold.schema.sensitive)
    frame = pd.DataFrame(matrix[:, :-widths]).add_prefix("x ")
    group = group_positions(fold.schema, table)
    for index in range(len(fold.schema.groups) - 1):
        frame[f"group {index}"] = (group == index).astype(float)
    return frame
