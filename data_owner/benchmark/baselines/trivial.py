"""What needs no generator: the records, with the labels they have or repaired ones, and the constant classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.base import ClassifierMixin

from data_owner.benchmark.fair4free import PARITY
from data_owner.benchmark.systems import Fold
from data_owner.learning.repair import repaired_targets
from shared.codec import labels, sample_level
from shared.metrics import Integers, outcome


def original(fold: Fold) -> pd.DataFrame:
    return fold.training


def repaired(fold: Fold) -> pd.DataFrame:
    """The records with a label each drawn from our repaired targets: what repair does without a teacher."""
    targets = torch.from_numpy(repaired_targets(fold.schema, fold.training, PARITY.repair, fold.seed))
    uniform = torch.rand(len(targets), generator=torch.Generator().manual_seed(fold.seed))
    drawn = sample_level(targets.log(), uniform).numpy()
    return fold.training.assign(**{fold.schema.target.name: labels(fold.schema.target, drawn)})


def constant(fold: Fold, model: ClassifierMixin) -> Integers:
    """The commoner class for every held-out row, (n,)."""
    commoner = int(outcome(fold.training, fold.schema).mean() > 0.5)
    return np.full(len(fold.held_out), commoner)
