"""From a table to what a release is made of: records split, labels repaired, a teacher trained, its artefacts.

Functions of values: `data_owner.steps` runs them over a node, the benchmark over folds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import one_hot

from data_owner.learning.device import trains_on
from data_owner.learning.repair import repaired_targets
from data_owner.learning.teacher import TeacherSettings, architecture_for, default_settings
from data_owner.learning.training import Trained, train_teacher, validation_split
from data_owner.records.disclosure import check_classes, disclose, merge_rare_declared
from data_owner.records.ingest import MergedGroups, read, with_groups
from data_owner.settings import ColumnSettings, OwnerSettings, TrainingSettings
from protocol.artefacts import Artefact
from shared.codec import encode
from shared.errors import BadContent
from shared.progress import Progress, quiet
from shared.schema import ColumnRole, Schema

HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class Prepared:
    """What a teacher is trained and measured on: canonical tables, all in the schema's categories; `merged`: the
    sensitive groups that were too small, if any."""

    schema: Schema
    training: pd.DataFrame
    held_out: pd.DataFrame
    merged: MergedGroups | None = None

    def learned(self, seed: int) -> pd.DataFrame:
        """The training records that `fit` with this seed learns weights from: none that only validates."""
        _, rows = validation_split(self.schema, len(self.training), seed)
        return self.training.iloc[rows.sort().values.numpy()].reset_index(drop=True)


def split(table: pd.DataFrame, settings: OwnerSettings) -> Prepared:
    """A fifth is held out, in proportion to the target's classes. The minimum count is of records that are trained on,
    and of each class held out too.

    Raises `BadInput` or `PolicyRefusal` naming the column and the remedy.
    """
    found, minimum_count = read(table, settings), settings.policy.minimum_count
    (target,) = (fact.name for fact in found.columns if fact.role is ColumnRole.TARGET)
    check_classes(found.frame[target], target, minimum_count)
    rows = np.arange(len(found.frame))
    training, held_out = train_test_split(
        rows, test_size=HELD_OUT_SHARE, random_state=settings.training.seed, stratify=found.frame[target]
    )
    counted = rows
    if settings.privacy is None:  # nobody is behind microdata
        counted = training
        # of so few the scores of all held-out records would tell
        check_classes(found.frame[target].iloc[held_out], target, minimum_count, " among the held-out fifth")
        found = merge_rare_declared(found, minimum_count, counted)
    grouped = with_groups(found, settings.policy, counted)
    schema, canonical = disclose(grouped, minimum_count, counted, of_people=settings.privacy is None)
    architecture_for(schema, default_settings(schema))
    kept = [canonical.iloc[part].reset_index(drop=True) for part in (training, held_out)]
    return Prepared(schema, kept[0], kept[1], grouped.merged)


def with_refused_undecided(table: pd.DataFrame, settings: OwnerSettings) -> OwnerSettings:
    """Settings in which every feature that `split` refuses waits for a person, with the reason. Raises for the rest of
    what it refuses."""
    features = {
        name
        for name, entry in settings.columns.items()
        if entry.role == "feature" and entry.kind not in ("exclude", "image")
    }
    reasons: dict[str, str] = {}

    def without(kind: Literal["exclude", "undecided"]) -> OwnerSettings:
        refused = {name: ColumnSettings(kind=kind, reason=reason) for name, reason in reasons.items()}
        return settings.model_copy(update={"columns": settings.columns | refused})

    while not features or features - reasons.keys():
        try:
            split(table, without("exclude"))
            break
        except BadContent as refusal:
            found = {each.field: each.problem for each in refusal.several or (refusal,)}
            if not found.keys() <= features - reasons.keys():
                raise
            reasons |= found
    return without("undecided")


def recipe(schema: Schema, training: TrainingSettings) -> str:
    """What a fit depends on beside the records and their schema: training settings, the default teacher's, and this
    program with its libraries and device. One that was begun under another recipe is not gone on with."""
    made_with = f"fair4free {version('fair4free')}, torch {torch.__version__} on {trains_on()}"
    return f"{training.model_dump_json()} {default_settings(schema)} {made_with}"


def fit(
    prepared: Prepared,
    training: TrainingSettings,
    teacher: TeacherSettings | None = None,
    *,
    load: Callable[[], bytes | None] = lambda: None,
    save: Callable[[bytes], None] = lambda data: None,
    progress: Progress = quiet,
) -> Trained:
    """Train on the training part alone. Raises `BadInput` for a damaged checkpoint."""
    encoded = encode(prepared.schema, prepared.training)
    seed = training.seed
    targets: Tensor = one_hot(encoded.target, len(prepared.schema.target.categories)).float()
    if training.repair > 0.0:
        progress(0, 1, "out-of-fold scores for repaired targets")
        targets = torch.from_numpy(repaired_targets(prepared.schema, prepared.training, training.repair, seed)).float()
    return train_teacher(
        prepared.schema,
        encoded,
        targets,
        dataclasses.replace(teacher or default_settings(prepared.schema), criterion=training.criterion),
        seed,
        load=load,
        save=save,
        progress=progress,
    )


def artefacts(schema: Schema, trained: Trained) -> dict[Artefact, bytes]:
    """The three that training makes; the card comes from the gate and the manifest from approval."""
    return {
        Artefact.DECODER: trained.teacher.decoder.to_bytes(),
        Artefact.STATISTICS: trained.statistics.to_bytes(),
        Artefact.SCHEMA: schema.to_bytes(),
    }
