"""Who judges synthetic rows: a forest over the columns of a table, or a small classifier that looks at pictures."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from shared import metrics
from shared.codec import group_positions, positions
from shared.image_classifier import ImageClassifier, train_classifier
from shared.metrics import FIDELITY_ROWS, JUDGED_TOGETHER, Integers
from shared.schema import Schema
from shared.scores import Fidelity

IMAGE_PROTOCOL = (
    "Trained on synthetic pictures, tested on real held-out ones drawn so that each class has every group equally "
    "often: a convolutional classifier (maps 16 and doubling, 64 features, 1,200 steps of 128 pictures); 16 synthetic "
    "pictures for each training picture, at most 60,000. Ratios, recall and F1: means of each class against the rest. "
    + JUDGED_TOGETHER
    + "Ceiling: the same predictions with s permuted, 20 times. Floor: the constant classifier. Density and coverage "
    "(k = 5) of as many synthetic pictures as training ones against real held-out ones, in the 64 features of such a "
    "classifier trained on the originals, drawn by the same rule; "
    "their ceiling is real training pictures against the same."
)


class Judge(Protocol):
    """`protocol` says in words what the two figures are. `balanced`: whether models are to learn from balanced rows."""

    protocol: str
    balanced: bool

    def test(self, held_out: pd.DataFrame) -> pd.DataFrame:
        """The held-out rows that predictions are scored on."""
        ...

    def predict(self, train: pd.DataFrame, test: pd.DataFrame) -> Integers:
        """Predicted outcomes (as `metrics.outcome`) of `test` by a model trained on `train`."""
        ...

    def fidelity(self, real: pd.DataFrame, other: pd.DataFrame) -> Fidelity:
        """Density and coverage of `other` against `real`."""
        ...


class TableJudge:
    protocol = metrics.PROTOCOL
    balanced = True

    def __init__(self, schema: Schema, seed: int) -> None:
        self._schema, self._seed = schema, seed

    def test(self, held_out: pd.DataFrame) -> pd.DataFrame:
        return held_out

    def predict(self, train: pd.DataFrame, test: pd.DataFrame) -> Integers:
        return metrics.predict(train, test, self._schema, metrics.random_forest(self._seed))

    def fidelity(self, real: pd.DataFrame, other: pd.DataFrame) -> Fidelity:
        return metrics.density_coverage(real, other, self._schema, self._seed)


class ImageJudge:
    """`reference`: the pictures that a classifier learns from whose features pictures are compared in."""

    protocol = IMAGE_PROTOCOL
    balanced = False  # under odds the group tells nothing of the class as it is

    def __init__(self, schema: Schema, reference: pd.DataFrame, seed: int) -> None:
        self.schema, self._seed, self.reference = schema, seed, reference

    @cached_property
    def classifier(self) -> ImageClassifier:
        """Learned from the reference pictures, drawn so that the group tells nothing of the class."""
        return train_classifier(self.reference, self.schema, self._seed, rebalanced=True)

    def test(self, held_out: pd.DataFrame) -> pd.DataFrame:
        return equal_groups(held_out, self.schema, self._seed)

    def predict(self, train: pd.DataFrame, test: pd.DataFrame) -> Integers:
        model = train_classifier(train, self.schema, self._seed)
        return metrics.numbered(model.predict(test, self.schema), self.schema)

    def fidelity(self, real: pd.DataFrame, other: pd.DataFrame) -> Fidelity:
        draw = np.random.default_rng(self._seed)
        points, others = (
            self.classifier.features(metrics.draw_rows(table, rows, draw), self.schema)
            for table, rows in ((real, FIDELITY_ROWS), (other, 4 * FIDELITY_ROWS))
        )
        return metrics.nearness(points, others)


def judge_for(schema: Schema, reference: pd.DataFrame, seed: int) -> Judge:
    """The judge of tables, or of pictures after learning from the reference pictures."""
    return TableJudge(schema, seed) if schema.image is None else ImageJudge(schema, reference, seed)


def equal_groups(table: pd.DataFrame, schema: Schema, seed: int) -> pd.DataFrame:
    """As many rows as can be in which every group is as frequent within a class, so that s tells nothing of y.

    A class that a group lacks altogether is left as it is.
    """
    target, group = positions(schema.target, table[schema.target.name]), group_positions(schema, table)
    draw = np.random.default_rng(seed)
    kept = []
    for index in range(len(schema.target.categories)):
        members = [np.flatnonzero((target == index) & (group == each)) for each in range(len(schema.groups))]
        least = min(len(rows) for rows in members)
        kept += [draw.choice(rows, least, replace=False) if least else rows for rows in members]
    return table.iloc[np.sort(np.concatenate(kept))].reset_index(drop=True)
