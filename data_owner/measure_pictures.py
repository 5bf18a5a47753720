"""What only the owner can measure of pictures: labels, by a classifier trained on originals, groups, and what the
encoder's latents tell of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_predict
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import one_hot

from data_owner.learning.teacher import Teacher, default_settings
from data_owner.learning.training import posteriors
from shared.codec import encode, group_positions, positions
from shared.decoder import Decoder
from shared.errors import VerificationFailure
from shared.judge import ImageJudge
from shared.metrics import Integers, outcome
from shared.schema import Schema
from shared.scores import GroupAccuracy, PictureScores

HARDEST_SHARE = 0.1
"""The hardest cells: this share of all pairs of class and group, those on which the originals' classifier is worst."""

FOLDS = 3


def cell_sizes(test: pd.DataFrame, schema: Schema) -> Integers:
    """Rows in each cell, (classes, groups)."""
    cell, shape = _cells(test, schema)
    return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)


def _cells(test: pd.DataFrame, schema: Schema) -> tuple[Integers, tuple[int, int]]:
    """The cell of each row (n,), and how many classes and groups there are."""
    shape = len(schema.target.categories), len(schema.groups)
    target, group = positions(schema.target, test[schema.target.name]), group_positions(schema, test)
    return target * shape[1] + group, shape


def hardest_cells(cells: int) -> int:
    """How many count as the hardest, of so many cells that have a picture in each half."""
    return max(1, round(HARDEST_SHARE * cells))


def hardest(test: pd.DataFrame, synthetic: Integers, original: Integers, schema: Schema) -> tuple[float, float] | None:
    """Mean accuracy in the cells on which the originals' classifier is worst: of the synthetic's, and of its own.

    synthetic, original: what each predicts, (n,).

    Cells are chosen on one half of their pictures and scored on the other, both ways: the worst of many is partly
    bad luck, which the other half does not share. None where no cell has two pictures.
    """
    truth, (cell, _) = outcome(test, schema), _cells(test, schema)
    right = pd.DataFrame({"synthetic": truth == synthetic, "original": truth == original})
    half = right.groupby(cell).cumcount() % 2
    if not half.any():
        return None
    accuracy = right.groupby([cell, half]).mean().unstack().dropna()
    scored = []
    for chosen in (0, 1):
        worst = accuracy["original"][chosen].nsmallest(hardest_cells(len(accuracy))).index
        scored.append(accuracy.loc[worst].xs(1 - chosen, axis=1, level=1).mean())
    found = sum(scored) / 2
    return float(found["synthetic"]), float(found["original"])


def group_accuracies(
    test: pd.DataFrame, synthetic: Integers, original: Integers, schema: Schema
) -> tuple[GroupAccuracy, ...]:
    truth, groups = outcome(test, schema), group_positions(schema, test)
    return tuple(
        GroupAccuracy(
            label=group.label,
            synthetic=float((truth == synthetic)[groups == index].mean()),
            original=float((truth == original)[groups == index].mean()),
        )
        for index, group in enumerate(schema.groups)
        if (groups == index).any()
    )


def group_from_latents(latents: Tensor, target: Tensor, group: Tensor, seed: int) -> dict[str, float]:
    """How well boosting, cross-validated, predicts the group (n,) from z (n, d) with and without the class (n,)."""
    classes = one_hot(target)
    in_class = (one_hot(group).double().T @ classes.double()).max(0).values.sum() / len(group)
    return {
        "group_from_latent_in_class": _predicted(torch.cat([latents, classes.to(latents.dtype)], 1), group, seed),
        "group_commonest_in_class": float(in_class),
        "group_from_latent": _predicted(latents, group, seed),
        "group_commonest": float(torch.bincount(group).max() / len(group)),
    }


def _predicted(inputs: Tensor, group: Tensor, seed: int) -> float:
    # above 10,000 rows it stops early by a stratified split, which a fold with one of a group does not allow
    early = "auto" if int(torch.unique(group, return_counts=True)[1].min()) >= FOLDS else False
    model = HistGradientBoostingClassifier(max_iter=50, random_state=seed, early_stopping=early)
    with threadpool_limits(1, user_api="openmp"):
        found = cross_val_predict(model, inputs.numpy(), group.numpy(), cv=FOLDS)
    return float((found == group.numpy()).mean())


def picture_scores(
    judge: ImageJudge,
    synthetic: pd.DataFrame,
    test: pd.DataFrame,
    predicted: Integers,
    from_original: Integers,
    schema: Schema,
) -> PictureScores:
    """Labels and groups. `predicted` and `from_original`: outcomes of `test` by synthetic and by original pictures."""
    hardest_synthetic, hardest_original = hardest(test, predicted, from_original, schema) or (None, None)
    return PictureScores(
        agreement=agreement(judge, synthetic, schema),
        agreement_ceiling=agreement(judge, test, schema),
        groups=group_accuracies(test, predicted, from_original, schema),
        hardest_synthetic=hardest_synthetic,
        hardest_original=hardest_original,
    )


def agreement(judge: ImageJudge, table: pd.DataFrame, schema: Schema) -> float:
    """How often a classifier trained on the originals gives a picture its label."""
    labels = positions(schema.target, table[schema.target.name])
    return float((judge.classifier.predict(table, schema) == labels).mean())


@torch.no_grad()
def with_latents(
    found: PictureScores, teacher: Teacher | None, held_out: pd.DataFrame, schema: Schema, seed: int
) -> PictureScores:
    """The same with what latents of held-out pictures, one draw each from their posteriors, tell of the group."""
    if teacher is None:
        return found
    records = encode(schema, held_out)
    mean, variance = posteriors(teacher, records)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
    told = group_from_latents(mean + variance.sqrt() * noise, records.target, records.group, seed)
    return found.model_copy(update=told)


def restored_teacher(schema: Schema, decoder: Decoder, encoder: bytes) -> Teacher:
    """The teacher out of the encoder that stayed here and the decoder of its release."""
    teacher = Teacher(schema, default_settings(schema))
    try:
        teacher.encoder.load_state_dict(load_tensors(encoder))
    except (RuntimeError, SafetensorError):  # torch raises a subclass of its own for other shapes
        raise VerificationFailure(
            "the encoder is not of this release", field="encoder.safetensors", remedy="train again"
        ) from None
    teacher.decoder = decoder
    return teacher.eval()
