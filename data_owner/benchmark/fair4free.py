"""Our system on a fold, by the functions that a deployed owner and consumer run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from data_owner.benchmark.systems import Fold, Rows
from data_owner.learning import fitting
from data_owner.learning.teacher import TeacherSettings
from data_owner.learning.training import Trained
from data_owner.measure import reference
from data_owner.settings import TrainingSettings
from shared.generation import Synthesiser
from shared.student import StudentSettings

PARITY = TrainingSettings()
ODDS = TrainingSettings(criterion="odds", repair=0.0)


@dataclass(frozen=True)
class Both:
    """What the owner trained, and what a consumer has of it."""

    trained: Trained
    synthesiser: Synthesiser


def parity(fold: Fold) -> Rows:
    return _rows(fold, PARITY, TeacherSettings())


def unbalanced(fold: Fold) -> pd.DataFrame:
    """What a consumer draws without `--balanced`, as every other generator here draws its rows."""
    return train_and_distil(fold, PARITY, TeacherSettings()).synthesiser.table(fold.seed, fold.rows)


def odds(fold: Fold) -> Rows:
    return _rows(fold, ODDS, TeacherSettings())


def parity_at(beta: float, repair: float) -> Callable[[Fold], Rows]:
    """Our system with another weight of the penalty, on labels repaired with strength `repair`."""

    def generate(fold: Fold) -> Rows:
        training = PARITY.model_copy(update={"repair": repair})
        return _rows(fold, training, replace(TeacherSettings(), beta=beta))

    return generate


def train_and_distil(fold: Fold, training: TrainingSettings, teacher: TeacherSettings) -> Both:
    """Train, write the release, distil from its bytes alone."""
    trained = train(fold, training, teacher)
    return Both(trained, distil(fold, trained))


def train(fold: Fold, training: TrainingSettings, teacher: TeacherSettings) -> Trained:
    prepared = fitting.Prepared(fold.schema, fold.training, fold.held_out)
    seeded = training.model_copy(update={"seed": fold.seed})
    return fitting.fit(prepared, seeded, replace(teacher, steps=fold.steps(teacher.steps)))


def distil(fold: Fold, trained: Trained) -> Synthesiser:
    """From the bytes of a release alone."""
    student = StudentSettings(seed=fold.seed)
    student = replace(student, steps=fold.steps(student.steps))
    synthesiser, _ = reference(fitting.artefacts(fold.schema, trained), student)
    return synthesiser


def rows(synthesiser: Synthesiser, fold: Fold) -> Rows:
    """Balanced rows for models, and others as the training records are."""
    return Rows(
        synthesiser.table(fold.seed, fold.rows, balanced=True), synthesiser.table(fold.seed, len(fold.training))
    )


def _rows(fold: Fold, training: TrainingSettings, teacher: TeacherSettings) -> Rows:
    return rows(train_and_distil(fold, training, teacher).synthesiser, fold)
