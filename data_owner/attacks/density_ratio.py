"""Membership by density ratio: p_synthetic(x) / p_reference(x), high where the generator overfits locally.

DOMIAS (van Breugel et al., AISTATS 2023), its kernel density variant on principal components. The reference is the half
of the control records that is not attacked. The baseline knows the reference alone: 1 / p_reference(x).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

from data_owner.attacks import score
from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Floats, Result
from data_owner.attacks.targets import Targets, features
from shared.codec import encode

COMPONENTS = 6
MOST_ROWS = 5000
LEAST_SPREAD = 1e-6


def attack(targets: Targets, synthetic: pd.DataFrame, seed: int) -> tuple[Result, ...]:
    """`synthetic`: canonical rows as an analyst makes them."""
    reference, attacked = targets.with_reference()
    rows = features(targets.schema, encode(targets.schema, synthetic.iloc[:MOST_ROWS]))
    points = [features(targets.schema, records) for records in (attacked.members, attacked.control)]
    ratio, reference_only = density_ratios(rows, features(targets.schema, reference), np.concatenate(points))
    members = len(attacked.members)
    return score.results(Attack.DENSITY_RATIO, attacked, ratio[:members], ratio[members:], reference_only, seed)


def density_ratios(synthetic: Floats, reference: Floats, points: Floats) -> tuple[Floats, Floats]:
    """log p_synthetic - log p_reference, and - log p_reference, at each of `points` (n, width): (n,) each."""
    projection = PCA(min(COMPONENTS, *synthetic.shape), random_state=0).fit(synthetic)
    spread = np.sqrt(projection.explained_variance_)
    spread[spread < LEAST_SPREAD] = 1.0  # a component on which all rows agree stays as it is
    low = [projection.transform(each) / spread for each in (synthetic, reference, points)]
    over, under = (KernelDensity(bandwidth="scott").fit(each).score_samples(low[2]) for each in low[:2])
    return over - under, -under
