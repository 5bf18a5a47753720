"""Reconstruction: whether some z makes the released decoder say exactly this record.

A decoder that has memorised a record has a place in its latent space from which it comes out; one that has learned
people in general explains members and others alike. The score of a record is its log-likelihood at the best z that
can be found, and the advantage is on members over held-out records.

A second score is by how much the decoder says a record better in its own group than in another. How hard a record is to
say at all cancels, as in the difficulty calibration of Watson et al. (ICLR 2022), with the release itself in the place
of the reference model; what remains is what the weights of the record's group know of it, and those of a small group
know few people.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from data_owner.attacks import score
from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Floats, Result
from data_owner.attacks.search import Released, search
from data_owner.attacks.targets import Targets
from shared.codec import Encoded
from shared.schema import Schema

BY_GROUP = "own group against another"


def attack(released: Released, targets: Targets, seed: int) -> tuple[Result, ...]:
    """By both scores; the baseline calls records members at random."""
    sides = targets.members, targets.control
    member, control = (scores(released, records) for records in sides)
    member_elsewhere, control_elsewhere = (
        scores(released, in_another_group(released.schema, records)) for records in sides
    )
    gained = member - member_elsewhere, control - control_elsewhere
    baseline = np.random.default_rng(seed).random(len(member) + len(control))
    return (
        *score.results(Attack.RECONSTRUCTION, targets, member, control, baseline, seed),
        *score.results(Attack.RECONSTRUCTION, targets, *gained, baseline, seed, BY_GROUP),
    )


def in_another_group(schema: Schema, records: Encoded) -> Encoded:
    """The same records in the largest group by the schema's shares, those of that group in the second largest."""
    second, largest = sorted(range(len(schema.groups)), key=lambda index: schema.groups[index].share)[-2:]
    return replace(records, group=torch.where(records.group == largest, second, largest))


def scores(released: Released, records: Encoded) -> Floats:
    """Log-likelihood of each record at its best z, (n,)."""
    return search(released, records).joint.double().numpy()
