"""From one score a record to guesses of who was a member, at a false positive rate that is held down."""

from __future__ import annotations

import numpy as np

from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Flags, Floats, Guesses, Result, outcomes
from data_owner.attacks.targets import Targets

RATES = {"TPR at 1 % FPR": 0.01, "TPR at 0.1 % FPR": 0.001}
"""What counts is how surely some are told, not an average over all (Carlini et al. 2022, section IV)."""


def results(
    attack: Attack, targets: Targets, member: Floats, control: Floats, baseline: Floats, seed: int, by: str = ""
) -> tuple[Result, ...]:
    """Guess by scores of members and control records, high for a member; `baseline` scores members without the
    release, against the same scores of control records, both in one array (members, then control). `by` names the
    score where an attack has several."""
    found = []
    for aim, rate in RATES.items():
        generator = np.random.default_rng(seed)
        guessed = called_members(member, control, rate, generator)
        without, _ = called_members(baseline[: len(member)], baseline[len(member) :], rate, generator)
        found.append(
            Result(
                attack=attack,
                aim=f"{by}, {aim}" if by else aim,
                outcomes=outcomes(
                    Guesses(guessed[0], targets.member_parts),
                    Guesses(guessed[1], targets.control_parts),
                    Guesses(without, targets.member_parts),
                ),
            )
        )
    return tuple(found)


def called_members(member: Floats, control: Floats, rate: float, generator: np.random.Generator) -> tuple[Flags, Flags]:
    """Which scores (n,), (k,) pass a threshold that about `rate` of control records pass.

    Each half is judged by the threshold of the other half's control records, so no record helped to set its own. Equal
    scores are put in random order: none of them would be above a threshold that is one of them.
    """
    halves = [generator.permutation(len(scores)) % 2 == 0 for scores in (member, control)]
    ties = generator.spawn(1)[0].random(len(member) + len(control))  # spawned, so later draws are as without ties
    ranks = np.lexsort((ties, np.concatenate([member, control]))).argsort().astype(float)
    member, control = ranks[: len(member)], ranks[len(member) :]
    called = [np.zeros(len(scores), bool) for scores in (member, control)]
    for side in (True, False):
        limit = threshold(control[halves[1] != side], rate)
        for flags, scores, half in zip(called, (member, control), halves, strict=True):
            flags[half == side] = scores[half == side] > limit
    return called[0], called[1]


def threshold(control: Floats, rate: float) -> float:
    """The lowest score that at most `rate` of `control` (n,) exceeds; of others alike 1 / (n + 1) more do, on average:
    an attack is given the chance, and judged by those others."""
    return float(np.sort(control)[::-1][int(rate * len(control))])
