"""Linkability: which of ten records in one file belongs to a person in another, when the files share no column.

The attacker searches z by the columns of one file and picks, among the target and nine others of its group, the one
whose columns in the other file the decoder finds likeliest there (Giomi et al. 2023, with the decoder in the place of
nearest synthetic rows). The baseline picks at random. Groups with fewer than ten on either side are left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Guesses, Result, outcomes
from data_owner.attacks.search import Released, log_likelihood, search
from data_owner.attacks.targets import Targets
from shared.codec import Encoded

CANDIDATES = 10
COLUMNS = 6
"""Columns of each file, at most."""

AIM = f"one of {CANDIDATES} in another file"


def attack(released: Released, targets: Targets, seed: int) -> tuple[Result, ...]:
    targets = targets.in_groups_of(CANDIDATES)
    generator = torch.Generator().manual_seed(seed)
    width = min(COLUMNS, released.columns // 2)
    shuffled = torch.randperm(released.columns, generator=generator)
    files = shuffled[:width], shuffled[width : 2 * width]
    rights = [link(released, records, *files, generator).numpy() for records in (targets.members, targets.control)]
    random = np.random.default_rng(seed).random(len(rights[0])) < 1.0 / CANDIDATES
    return (
        Result(
            attack=Attack.LINKABILITY,
            aim=AIM,
            outcomes=outcomes(
                Guesses(rights[0], targets.member_parts),
                Guesses(rights[1], targets.control_parts),
                Guesses(random, targets.member_parts),
            ),
        ),
    )


def link(released: Released, records: Encoded, known: Tensor, linked: Tensor, generator: torch.Generator) -> Tensor:
    """Whether the right one is picked for each record, (n,) bool. known, linked: positions of columns."""
    columns = torch.zeros(released.columns, dtype=torch.bool).index_fill(0, known, True)
    told = columns.expand(len(records), -1)
    z = search(released, records, told).z
    numbers = columns[: records.absent.shape[1]]
    with torch.no_grad():
        others = torch.cat([torch.arange(len(records)).unsqueeze(1), _decoys(records, generator)], 1)
        candidates = [records[each] for each in others.unbind(1)]
        # a candidate is weighed with the gaps that the attacker holds of the person
        held = [replace(each, absent=torch.where(numbers, records.absent, each.absent)) for each in candidates]
        scores = torch.stack([log_likelihood(released, z, each, told)[:, linked].sum(1) for each in held], 1)
    # decoys with the same values cannot be told apart: one of all that tie is picked
    best = scores.amax(1)
    tied = (scores == best.unsqueeze(1)).sum(1)
    return (scores[:, 0] == best) & (torch.rand(len(records), generator=generator) * tied < 1.0)


def _decoys(records: Encoded, generator: torch.Generator) -> Tensor:
    """Different others of the same group for each, (n, CANDIDATES - 1): those next to it in a random circle.

    With fewer than `CANDIDATES` in a group they would repeat, and chance would be right more often.
    """
    found = torch.empty(len(records), CANDIDATES - 1, dtype=torch.long)
    for group in set(records.group.tolist()):
        inside = (records.group == group).nonzero()[:, 0]
        shuffled = inside[torch.randperm(len(inside), generator=generator)]
        found[shuffled] = torch.stack([shuffled.roll(step) for step in range(1, CANDIDATES)], 1)
    return found
