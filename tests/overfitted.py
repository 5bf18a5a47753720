"""A teacher that has learned 200 patients by heart, for attacks to be tried on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from data_owner.learning import fitting
from data_owner.learning.teacher import Teacher, TeacherSettings
from data_owner.learning.training import Trained, latent_statistics
from data_owner.records.ingest import ingest
from protocol.artefacts import Artefact
from shared.codec import encode
from shared.schema import Schema
from tests.conftest import patients, settings_for

MEMORISING = TeacherSettings(beta=0.0, kl_weight=1.0, latent=12, encoder_hidden=(128,), hidden=(128,), head=(16,))
LABORATORY = 20
STEPS = 300


def laboratory_patients(rows: int, seed: int) -> pd.DataFrame:
    """Patients with twenty laboratory values that nothing but memory could tell."""
    draw = np.random.default_rng(seed + 100)
    values = {f"laboratory {index}": np.round(draw.normal(10.0, 3.0, rows), 2) for index in range(LABORATORY)}
    return patients(rows, seed).assign(**values)


def canonical(rows: int, seed: int) -> pd.DataFrame:
    """Other patients than those of another seed, as canonical records."""
    table = laboratory_patients(rows, seed)
    return ingest(table, settings_for(table)).frame


def by_heart(schema: Schema, training: pd.DataFrame, seed: int = 0, steps: int = STEPS) -> Mapping[Artefact, bytes]:
    """A release of a teacher without penalty and early stopping, trained until it knows its records."""
    records = encode(schema, training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = Teacher(schema, MEMORISING)
        optimiser = torch.optim.Adam(teacher.parameters(), 4e-3)
        for _ in range(steps):
            loss = teacher.losses(records).total(MEMORISING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    teacher.eval()
    return fitting.artefacts(schema, Trained(teacher, latent_statistics(teacher, records, seed), ()))
