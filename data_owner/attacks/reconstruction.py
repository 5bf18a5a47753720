"""Reconstruction: whether some z makes the released decoder say exactly this record.

A decoder that has memorised a record has a place in its latent space from which it comes out; one that has learned
people in general explains members and others alike. The score of a record is its log-likelihood at the best z that
can be found, and the advantage is on members over held-out records.
"""

from __future__ import annotations

import numpy as np

from data_owner.attacks import score
from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Floats, Result
from data_owner.attacks.search import Released, search
from data_owner.attacks.targets import Targets
from shared.codec import Encoded


def attack(released: Released, targets: Targets, seed: int) -> tuple[Result, ...]:
    """The baseline calls records members at random."""
    member, control = (scores(released, records) for records in (targets.members, targets.control))
    baseline = np.random.default_rng(seed).random(len(member) + len(control))
    return score.results(Attack.RECONSTRUCTION, targets, member, control, baseline, seed)


def scores(released: Released, records: Encoded) -> Floats:
    """Log-likelihood of each record at its best z, (n,)."""
    return search(released, records).joint.double().numpy()
