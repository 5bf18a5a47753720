"""What needs no generator: the records, with the labels they have or repaired ones, and the constant classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.base import ClassifierMixin
from torch import Tensor

from data_owner.benchmark.fair4free import PARITY
from data_owner.benchmark.systems import Fold, Rows
from data_owner.learning.repair import repaired_targets
from shared.codec import group_positions, labels, sample_level
from shared.generation import balanced_shares
from shared.metrics import Integers, outcome


def original(fold: Fold) -> pd.DataFrame:
    return fold.training


def repaired(fold: Fold) -> Rows:
    """The records with a label each drawn from our repaired targets; for models as many of them as ours are rows, and
    groups as balanced. What repair and balance do without a teacher."""
    schema, draw = fold.schema, torch.Generator().manual_seed(fold.seed)
    targets = torch.from_numpy(repaired_targets(schema, fold.training, PARITY.repair, fold.seed))

    def labelled(rows: Tensor) -> pd.DataFrame:
        drawn = sample_level(targets[rows].log(), torch.rand(len(rows), generator=draw)).numpy()
        records = fold.training.iloc[rows.numpy()].reset_index(drop=True)
        return records.assign(**{schema.target.name: labels(schema.target, drawn)})

    group = torch.from_numpy(group_positions(schema, fold.training))
    sizes = torch.bincount(group, minlength=len(schema.groups))
    weight = balanced_shares(sizes / len(group)) / sizes
    balanced = torch.multinomial(weight[group], fold.rows, replacement=True, generator=draw)
    return Rows(for_models=labelled(balanced), like_training=labelled(torch.arange(len(group))))


def constant(fold: Fold, model: ClassifierMixin) -> Integers:
    """The commoner class for every held-out row, (n,)."""
    commoner = int(outcome(fold.training, fold.schema).mean() > 0.5)
    return np.full(len(fold.held_out), commoner)
