"""The records with our repaired labels, in ours' balance of groups: what both do without a teacher."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from data_owner.benchmark.fair4free import PARITY
from data_owner.benchmark.systems import Fold, Rows
from data_owner.learning.repair import repaired_targets
from shared.codec import group_positions, labels, sample_level
from shared.generation import balanced_shares


def generate(fold: Fold) -> Rows:
    """The records with a label each drawn from our repaired targets; for models as many of them as ours are rows, and
    groups as balanced."""
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
