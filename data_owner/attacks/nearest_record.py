"""Distance to the closest synthetic row: shown because many ask for it, and never evidence of safety.

It sees little but copies, and few of them where many other people have the same values: releases that pass it leak to
every stronger attack here (Yao et al., "The DCR delusion", 2025). So the gate does not look at it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from data_owner.attacks import score
from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Floats, Result
from data_owner.attacks.targets import Targets, distances, features
from shared.codec import encode


def attack(targets: Targets, synthetic: pd.DataFrame, seed: int) -> tuple[Result, ...]:
    """Call those members that lie close to a synthetic row. The baseline calls at random."""
    rows = features(targets.schema, encode(targets.schema, synthetic))
    member, control = (
        -distances(rows, features(targets.schema, records)) for records in (targets.members, targets.control)
    )
    baseline: Floats = np.random.default_rng(seed).random(len(member) + len(control))
    return score.results(Attack.NEAREST_RECORD, targets, member, control, baseline, seed)
