"""Who judges synthetic rows: a forest over the columns of a table, or a small classifier that looks at pictures."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from shared import metrics
from shared.codec import group_positions, positions
from shared.image_classifier import BATCH, FEATURES, MAPS, STEPS, ImageClassifier, train_classifier
from shared.metrics import (
    FIDELITY_ROWS,
    JUDGED_TOGETHER,
    MOST_ROWS,
    NEIGHBOURS,
    PERMUTATIONS,
    ROWS_PER_RECORD,
    Integers,
)
from shared.schema import Schema
from shared.scores import Fidelity
from shared.table import drawn_rows

IMAGE_PROTOCOL = (
    "Trained on synthetic pictures, tested on real held-out ones drawn so that classes are mixed alike in each "
    "group, but for groups that lack a class, which are left out: a convolutional classifier (maps "
    f"{MAPS} and doubling, {FEATURES} features, {STEPS:,} steps of {BATCH} pictures); {ROWS_PER_RECORD} synthetic "
    f"pictures for each training picture, at most {MOST_ROWS:,}. With more than two classes recall and F1 are means of "
    "each class against the rest, ratios of those that are predicted. "
    + JUDGED_TOGETHER
    + f"Ceiling: the same predictions with s permuted, {PERMUTATIONS} times. "
    f"The constant classifier names the commonest class. Density and coverage (k = {NEIGHBOURS}) of as many "
    f"synthetic pictures as training ones, at most {4 * FIDELITY_ROWS:,}, against real held-out ones, at most "
    f"{FIDELITY_ROWS:,}, in the {FEATURES} features of such a classifier trained on the originals, drawn by the "
    "same rule; their ceiling is real training pictures against the same."
)


class Judge(Protocol):
    """`protocol` says in words how predictions are scored and fidelity is measured. `balanced`: whether models are to
    learn from balanced rows."""

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
    """`reference`: pictures on which a classifier is trained; fidelity is measured in its features."""

    protocol = IMAGE_PROTOCOL
    balanced = False  # under odds the group tells nothing of the class as it is

    def __init__(self, schema: Schema, reference: pd.DataFrame, seed: int) -> None:
        self.schema, self._seed, self.reference = schema, seed, reference

    @cached_property
    def classifier(self) -> ImageClassifier:
        """Learned from the reference pictures, drawn so that the group tells nothing of the class."""
        return train_classifier(self.reference, self.schema, self._seed, rebalanced=True)

    def test(self, held_out: pd.DataFrame) -> pd.DataFrame:
        return equally_mixed(held_out, self.schema, self._seed)

    def predict(self, train: pd.DataFrame, test: pd.DataFrame) -> Integers:
        model = train_classifier(train, self.schema, self._seed)
        return metrics.numbered(model.predict(test, self.schema), self.schema)

    def fidelity(self, real: pd.DataFrame, other: pd.DataFrame) -> Fidelity:
        draw = np.random.default_rng(self._seed)
        points, others = (
            self.classifier.features(drawn_rows(table, rows, draw), self.schema)
            for table, rows in ((real, FIDELITY_ROWS), (other, 4 * FIDELITY_ROWS))
        )
        return metrics.nearness(points, others)


def judge_for(schema: Schema, reference: pd.DataFrame, seed: int) -> Judge:
    """The judge of tables, or of pictures after learning from the reference pictures."""
    return TableJudge(schema, seed) if schema.image is None else ImageJudge(schema, reference, seed)


def equally_mixed(table: pd.DataFrame, schema: Schema, seed: int) -> pd.DataFrame:
    """As many rows of each group as can be in which classes are mixed as in the whole table, to a row, so that s tells
    nothing of y; a small group makes no other smaller.

    A group that lacks a class is left out; where fewer than two groups are left, the table is what it was.
    """
    target, group = positions(schema.target, table[schema.target.name]), group_positions(schema, table)
    present, counts = np.unique(target, return_counts=True)
    share = counts / len(target)
    draw = np.random.default_rng(seed)
    kept: list[Integers] = []
    for each in range(len(schema.groups)):
        members = [np.flatnonzero((target == index) & (group == each)) for index in present]
        most = min(len(rows) / part for rows, part in zip(members, share, strict=True))
        if most:
            sizes = (int(most * part + 1e-9) for part in share)
            kept += [draw.choice(rows, size, replace=False) for rows, size in zip(members, sizes, strict=True)]
    groups = len(kept) // len(present)
    return table.iloc[np.sort(np.concatenate(kept))].reset_index(drop=True) if groups > 1 else table


def left_out(table: pd.DataFrame, schema: Schema) -> tuple[str, ...]:
    """Labels of the groups of which `equally_mixed` keeps no row, whatever the seed."""
    kept = set(group_positions(schema, equally_mixed(table, schema, seed=0)).tolist())
    return tuple(group.label for index, group in enumerate(schema.groups) if index not in kept)
