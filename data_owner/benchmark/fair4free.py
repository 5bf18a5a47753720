"""Our system on a fold, by the functions that a deployed owner and consumer run."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pandas as pd

from data_owner import steps
from data_owner.benchmark.systems import Fold
from data_owner.measure import reference
from data_owner.settings import TrainingSettings
from data_owner.teacher import TeacherSettings
from protocol.artefacts import Artefact


def parity(fold: Fold) -> pd.DataFrame:
    return generate(fold, "parity", 1.0, TeacherSettings())


def odds(fold: Fold) -> pd.DataFrame:
    return generate(fold, "odds", 0.0, TeacherSettings())


def generate(fold: Fold, criterion: Literal["parity", "odds"], repair: float, teacher: TeacherSettings) -> pd.DataFrame:
    """Train, write the release, distil from its bytes alone, generate."""
    training = TrainingSettings(criterion=criterion, repair=repair, seed=fold.seed)
    prepared = steps.Prepared(fold.schema, fold.training, fold.held_out)
    trained = steps.fit(prepared, training, replace(teacher, steps=fold.steps(teacher.steps)))
    released = steps.artefacts(fold.schema, trained)
    synthesiser, _ = reference(
        released[Artefact.SCHEMA], released[Artefact.DECODER], released[Artefact.STATISTICS], fold.seed
    )
    return synthesiser.table(fold.seed, fold.rows)
