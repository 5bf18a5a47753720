"""Singling out: a condition on a few columns that holds for exactly one record.

Conditions that hold for exactly one synthetic row are tried on the records (Giomi et al. 2023, section 4.1, the
multivariate attack). The baseline makes conditions of the same form from random values of each column.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice

import numpy as np
import pandas as pd
import torch

from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Flags, Floats, Guesses, Result, outcomes
from data_owner.attacks.targets import features, least_sizes, parts, rarest
from shared.codec import Encoded, Layout, encode
from shared.schema import Schema

CONDITIONS = 1000
COLUMNS = 4
ATTEMPTS = 20
LEAST_CONDITIONS = 50
"""Fewer are not tried: so few extreme rows hit or miss together, which says nothing of the release."""

AIM = f"by a condition on {COLUMNS} columns"


def attack(
    schema: Schema, training: pd.DataFrame, held_out: pd.DataFrame, synthetic: pd.DataFrame, seed: int
) -> tuple[Result, ...]:
    """Canonical tables, cut to as many rows each: their number decides what is unique."""
    generator = np.random.default_rng(seed)
    count = min(len(training), len(held_out), len(synthetic))
    made = encode(schema, synthetic.iloc[:count])
    drawn = [table.iloc[generator.permutation(len(table))[:count]] for table in (training, held_out)]
    rows, members, control = (values(part) for part in (made, *(encode(schema, table) for table in drawn)))
    chosen = unique_conditions(rows, schema, generator)
    chosen = chosen if len(chosen) >= LEAST_CONDITIONS else []
    conditions = [condition(rows, row, columns, schema) for row, columns in chosen]
    shuffled = np.stack([generator.permutation(column) for column in rows.T], 1)
    random = [condition(shuffled, row, columns, schema) for row, columns in chosen]
    places = np.array([row for row, _ in chosen], int)
    sources = made[torch.from_numpy(places)]
    behind = parts(schema, sources, rarest(features(schema, made))[places], least_sizes(schema, sources))
    main, held, baseline = (
        Guesses(singled_out(made_from, part), behind)
        for made_from, part in ((conditions, members), (conditions, control), (random, members))
    )
    return (Result(attack=Attack.SINGLING_OUT, aim=AIM, outcomes=outcomes(main, held, baseline)),)


def values(records: Encoded) -> Floats:
    """Records as numbers: normal scores (missing: NaN), category positions, target, group, (n, columns)."""
    score = records.score.double().numpy().copy()
    score[records.absent.numpy()] = np.nan
    rest = [records.levels.numpy(), records.target.numpy()[:, None], records.group.numpy()[:, None]]
    return np.asfortranarray(np.concatenate([score, *rest], 1))  # a condition reads whole columns


def unique_conditions(
    rows: Floats, schema: Schema, generator: np.random.Generator
) -> list[tuple[int, tuple[int, ...]]]:
    """A synthetic row and columns on which a condition made from it holds for no other, `CONDITIONS` at most.

    One of each row: conditions on much the same values hold for much the same people, and are not two trials.
    """
    found: dict[int, tuple[int, ...]] = {}
    for row in islice(cycle(generator.permutation(len(rows)).tolist()), ATTEMPTS * CONDITIONS):
        if len(found) == CONDITIONS:
            break
        columns = tuple(sorted(generator.choice(rows.shape[1], min(COLUMNS, rows.shape[1]), replace=False).tolist()))
        if row not in found and condition(rows, row, columns, schema)(rows).sum() == 1:
            found[row] = columns
    return list(found.items())


def singled_out(conditions: list[Callable[[Floats], Flags]], records: Floats) -> Flags:
    """Whether each condition holds for exactly one of `records`, whom none before it has singled out, (n,) bool."""
    held = [np.flatnonzero(holds(records)) for holds in conditions]
    people = np.array([int(each[0]) if len(each) == 1 else -1 for each in held], int)
    first = np.zeros(len(people), bool)
    first[np.unique(people, return_index=True)[1]] = True
    return first & (people >= 0)


def condition(rows: Floats, row: int, columns: tuple[int, ...], schema: Schema) -> Callable[[Floats], Flags]:
    """What row `row` is on `columns`: equal to its category, missing as it is, or as far out as its number."""
    wanted = rows[row, list(columns)]
    numeric = len(Layout(schema).numeric)

    def holds(records: Floats) -> Flags:
        inside = np.ones(len(records), bool)
        for value, column in zip(wanted, columns, strict=True):
            held = records[:, column]
            if np.isnan(value):
                inside &= np.isnan(held)
            elif column >= numeric:
                inside &= held == value
            else:
                inside &= held >= value if value >= 0.0 else held <= value
        return inside

    return holds
