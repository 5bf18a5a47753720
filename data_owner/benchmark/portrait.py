"""What one fold of our system looks like: the paper's figure 3 (latents of teacher and student) and figure 4 (what a
model trained on original or synthetic rows relies on)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.inspection import permutation_importance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from data_owner.benchmark import cells, fair4free
from data_owner.benchmark.registry import OURS, chosen
from data_owner.benchmark.systems import Fold
from data_owner.learning.teacher import TeacherSettings
from shared import folder
from shared.codec import encode
from shared.frozen import Frozen
from shared.latent_plots import POINTS
from shared.metrics import design_matrix, outcome, random_forest
from shared.schema import ColumnRole, Schema

REPEATS = 5

Importance = dict[str, float]
Points = tuple[tuple[float, ...], ...]


class Portrait(Frozen):
    """`original`, `synthetic`: accuracy on real held-out rows that a forest trained on each loses when a column is
    permuted, s included. `teacher`: draws of training records' posteriors; `student`: latents z'. (POINTS, d)."""

    original: Importance
    synthetic: Importance
    teacher: Points
    student: Points


def portrait(study: cells.Study, place: Path) -> Portrait:
    """Of the first fold of seed 0: from its file under `place`, or made and kept there."""
    key = cells.Key(study=study, system=OURS, seed=0, fold=0)
    own = hashlib.sha256(cells.content_key(key, chosen((OURS,))[0]).encode() + cells.sources(__name__))
    path = place / f"portrait-{own.hexdigest()[:32]}.json"
    if path.is_file():
        return Portrait.model_validate_json(path.read_bytes())
    schema, training, held_out = cells.split(study, key.seed, key.fold)
    found = _draw(Fold(study.dataset, schema, training, held_out, key.seed, study.effort, place))
    folder.write(path, found.model_dump_json().encode())
    return found


def _draw(fold: Fold) -> Portrait:
    both = fair4free.train_and_distil(fold, fair4free.PARITY, TeacherSettings())
    generator = torch.Generator().manual_seed(fold.seed)
    with torch.no_grad():
        some = torch.randperm(len(fold.training), generator=generator)[:POINTS]
        mean, variance = both.trained.teacher.posterior(encode(fold.schema, fold.training)[some])
        teacher = mean + variance.sqrt() * torch.randn(mean.shape, generator=generator)
        student = both.synthesiser.latents(POINTS, generator)
    return Portrait(
        original=importance(fold.training, fold.held_out, fold.schema, fold.seed),
        synthetic=importance(
            both.synthesiser.table(fold.seed, len(fold.training)), fold.held_out, fold.schema, fold.seed
        ),
        teacher=_points(teacher),
        student=_points(student),
    )


def importance(train: pd.DataFrame, test: pd.DataFrame, schema: Schema, seed: int) -> Importance:
    """Permutation importance (Breiman 2001) of every column but the target, for a forest trained on `train`."""
    names = [column.name for column in schema.columns if column.role is not ColumnRole.TARGET]
    model = make_pipeline(FunctionTransformer(design_matrix, kw_args={"schema": schema}), random_forest(seed))
    model.fit(train[names], outcome(train, schema))
    found = permutation_importance(
        model, test[names], outcome(test, schema), scoring="accuracy", n_repeats=REPEATS, random_state=seed
    )
    return dict(zip(names, np.round(found.importances_mean, 5).tolist(), strict=True))


def _points(latents: torch.Tensor) -> Points:
    return tuple(tuple(round(value, 4) for value in row) for row in latents.tolist())
