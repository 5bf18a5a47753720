"""Membership by density ratio: p_synthetic(x) / p_reference(x), high where the generator overfits locally.

DOMIAS (van Breugel et al., AISTATS 2023), each density estimated by the distance to the nearest row (Loftsgaarden and
Quesenberry, "A nonparametric estimate of a multivariate density function", Annals of Mathematical Statistics 36, 1965):
unlike a kernel of one bandwidth it sees a copy amid many other rows. The reference is the half of the control records
that is not attacked. The baseline knows the reference alone: 1 / p_reference(x).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from data_owner.attacks import score
from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Floats, Result
from data_owner.attacks.targets import Targets, distances, features
from shared.codec import encode

LEAST_DISTANCE = 1e-3
"""Added to each: the distance of a copy is 0, of which there is no log."""


def attack(targets: Targets, synthetic: pd.DataFrame, seed: int) -> tuple[Result, ...]:
    """`synthetic`: canonical rows as an analyst makes them."""
    reference, attacked = targets.with_reference()
    people = (encode(targets.schema, synthetic), reference, attacked.both)
    ratio, reference_only = density_ratios(*(features(targets.schema, records) for records in people))
    members = len(attacked.members)
    return score.results(Attack.DENSITY_RATIO, attacked, ratio[:members], ratio[members:], reference_only, seed)


def density_ratios(synthetic: Floats, reference: Floats, points: Floats) -> tuple[Floats, Floats]:
    """log p_synthetic - log p_reference, and - log p_reference, at each of `points` (n, width): (n,) each.

    Both divided by `width` and up to a constant: a density goes as the distance to the power of -`width`.
    """
    over, under = (-np.log(distances(rows, points) + LEAST_DISTANCE) for rows in (synthetic, reference))
    return over - under, -under
