"""What a benchmark asks of every system: given a fold, rows that models are trained on, or predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from sklearn.base import ClassifierMixin

from shared.metrics import Integers, downstream_rows
from shared.schema import Schema


@dataclass(frozen=True)
class Fold:
    """One fold of canonical tables of a data set.

    `effort` scales training steps and rows for models, below 1 for a quick look. `scratch` is a folder in which systems
    of one fold share what they trained; `reused_seconds` is what that had cost, of processor time, each time one takes
    it over.
    """

    dataset: str
    schema: Schema
    training: pd.DataFrame
    held_out: pd.DataFrame
    seed: int
    effort: float
    scratch: Path
    reused_seconds: list[float] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Synthetic rows a downstream model is trained on: the protocol's, at less effort down to one a record."""
        full = downstream_rows(len(self.training))
        return max(min(full, len(self.training)), round(full * self.effort))

    def steps(self, full: int) -> int:
        """Training steps at this fold's effort, of `full` at effort 1."""
        return max(1, round(full * self.effort))


class Unsuitable(Exception):
    """A system cannot work on this data; the message says why and is shown in its row."""


@dataclass(frozen=True)
class Rows:
    """Canonical tables of a system that draws groups as it is told: `fold.rows` rows for models to be trained on, and
    as many as there are training records with groups as often as those have them."""

    for_models: pd.DataFrame
    like_training: pd.DataFrame


@dataclass(frozen=True)
class Generator:
    """A system that makes rows: `generate` returns canonical ones. A single table is for both uses; it has `fold.rows`
    rows, but for systems that have no more than the records."""

    name: str
    title: str
    generate: Callable[[Fold], pd.DataFrame | Rows]


@dataclass(frozen=True)
class Predictor:
    """A system that makes predictions: 0/1 for the held-out rows, with an unfitted model of the protocol."""

    name: str
    title: str
    predict: Callable[[Fold, ClassifierMixin], Integers]


System = Generator | Predictor
