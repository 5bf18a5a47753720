"""A one-run audit: a lower bound on ε from canaries, each of which a coin put into the training records or left out.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023. If training were (ε, δ)-DP, the
number of coins that can be guessed from the release would be bounded (their theorem 5.2); more correct guesses refute
every smaller ε at the stated confidence. The bound is of the training, in a run of its own: the release itself is made
without canaries and serves as the reference for how well a canary is explained by a release that never saw it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom

from data_owner.attacks import reconstruction
from data_owner.attacks.membership import Train
from data_owner.attacks.outcome import CONFIDENCE, Audit, Flags, Floats
from data_owner.attacks.search import Released
from data_owner.learning.training import validation_split
from shared.codec import encode
from shared.metrics import Integers

DELTA = 1e-5
SHARE, LEAST, MOST = 0.1, 40, 500
"""Canaries for each training record, at least and at most."""

GUESSED = 0.5
"""Share of canaries that a guess is made about: the surest, half of them as in, half as out."""


@dataclass(frozen=True)
class Planted:
    """Canaries, (n,) rows, and which of them the coin put in."""

    rows: pd.DataFrame
    inside: Flags


def audit(released: Released, train: Train, training: pd.DataFrame, held_out: pd.DataFrame, seed: int) -> Audit:
    """Train once with canaries and guess their coins by how much better than `released` that run explains them."""
    planted = plant(held_out, len(training), [column.name for column in released.schema.sensitive], seed)
    inside = planted.rows[planted.inside]
    _, learned = validation_split(released.schema, len(training) + len(inside), seed)
    audited = Released.of(train(put_at(learned.numpy()[: len(inside)], inside, training), seed))
    records = encode(released.schema, planted.rows)
    gain = reconstruction.scores(audited, records) - reconstruction.scores(released, records)
    return judge(gain, planted.inside)


def put_at(places: Integers, rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """One table with `rows` at `places` (n,) and `others` at the rest, in order."""
    order = np.empty(len(rows) + len(others), np.int64)
    order[places] = len(others) + np.arange(len(rows))
    order[np.setdiff1d(np.arange(len(order)), places)] = np.arange(len(others))
    return pd.concat([others, rows], ignore_index=True).iloc[order].reset_index(drop=True)


def plant(held_out: pd.DataFrame, records: int, sensitive: Sequence[str], seed: int) -> Planted:
    """Rows that nobody has: each column drawn by itself from held-out records, the sensitive ones together, since a
    release has no place for a joint group that nobody is in."""
    count = min(max(int(SHARE * records), LEAST), MOST)
    generator = np.random.default_rng(seed)
    drawn = {name: generator.integers(len(held_out), size=count) for name in held_out}
    drawn |= dict.fromkeys(sensitive, drawn[sensitive[0]])
    columns = {name: held_out[name].iloc[rows].reset_index(drop=True) for name, rows in drawn.items()}
    return Planted(pd.DataFrame(columns), generator.random(count) < 0.5)


def judge(gain: Floats, inside: Flags, delta: float = DELTA) -> Audit:
    """Guess in for the largest gains and out for the smallest. gain, inside: (n,). What is refuted is (ε, `delta`).

    Nothing is guessed where the surest of both kinds gained as much: their order would be that of the rows.
    """
    count = max(1, int(GUESSED * len(gain) / 2))
    order = np.argsort(gain, kind="stable")
    guesses = 2 * count if gain[order[-count]] > gain[order[count - 1]] else 0
    correct = int(inside[order[-count:]].sum() + (~inside[order[:count]]).sum()) if guesses else 0
    epsilon, refutable = (
        round(epsilon_lower_bound(len(gain), guesses, right, delta), 4) for right in (correct, guesses)
    )
    return Audit(
        canaries=len(gain), guesses=guesses, correct=correct, delta=delta, epsilon=epsilon, refutable=refutable
    )


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float) -> float:
    """The largest ε that `correct` of `guesses` refute at `CONFIDENCE`; 0 if they refute none."""

    def refuted(epsilon: float) -> bool:
        return p_value(canaries, guesses, correct, epsilon, delta) <= 1.0 - CONFIDENCE

    low, high = 0.0, 1.0
    if not refuted(low):
        return 0.0
    while refuted(high):
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """At most this likely are `correct` or more of `guesses` right if training is (ε, δ)-DP (theorem 5.2)."""
    chance = 1.0 / (1.0 + math.exp(-epsilon))
    beta = float(binom.sf(correct - 1, guesses, chance))
    tail = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, chance))
    alpha = float(np.max(tail / np.arange(1, correct + 1), initial=0.0))
    return min(1.0, beta + 2.0 * canaries * delta * alpha)
