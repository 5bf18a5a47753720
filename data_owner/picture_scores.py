"""What is measured of pictures beside fairness, utility and fidelity: labels, groups and what latents tell of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_predict
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import one_hot

from shared.codec import group_positions, positions
from shared.metrics import Integers, outcome
from shared.schema import Schema
from shared.scores import GroupAccuracy

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
