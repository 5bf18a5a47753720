"""Singling out: a condition on a few columns that holds for exactly one record.

Conditions that hold for exactly one synthetic row are tried on the records (Giomi et al. 2023, section 4.1, the
multivariate attack). The baseline makes conditions of the same form from random values of each column.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Flags, Floats, Guesses, Result, outcomes
from data_owner.attacks.targets import RAREST, Targets, features, rarest
from shared.codec import Encoded, Layout, encode
from shared.schema import Schema

CONDITIONS = 1000
COLUMNS = 4
ATTEMPTS = 20
AIM = f"by a condition on {COLUMNS} columns"


def attack(targets: Targets, synthetic: pd.DataFrame, seed: int) -> tuple[Result, ...]:
    """Members, control records and synthetic rows are cut to one number, which decides what is unique."""
    schema = targets.schema
    generator = np.random.default_rng(seed)
    count = min(len(targets.members), len(targets.control))
    made = encode(schema, synthetic.iloc[:count])
    rows, members, control = (values(schema, part) for part in (made, targets.members, targets.control))
    chosen = unique_conditions(rows, schema, generator)
    conditions = [condition(rows, row, columns, schema) for row, columns in chosen]
    shuffled = np.stack([generator.permutation(column) for column in rows.T], 1)
    random = [condition(shuffled, row, columns, schema) for row, columns in chosen]
    parts = condition_parts(schema, made, np.array([row for row, _ in chosen], int))
    rights = [
        np.array([int(holds(part).sum()) == 1 for holds in made_from], bool)
        for made_from, part in ((conditions, members[:count]), (conditions, control[:count]), (random, members[:count]))
    ]
    if not chosen:  # no condition is unique: all that was tried came to nothing
        rights, parts = [np.zeros(CONDITIONS, bool)] * 3, {}
    main, held, baseline = (Guesses(right, parts) for right in rights)
    return (Result(attack=Attack.SINGLING_OUT, aim=AIM, outcomes=outcomes(main, held, baseline)),)


def values(schema: Schema, records: Encoded) -> Floats:
    """Records as numbers: normal scores (missing: NaN), category positions, target, group, (n, columns)."""
    score = records.score.double().numpy().copy()
    score[records.absent.numpy()] = np.nan
    rest = [records.levels.numpy(), records.target.numpy()[:, None], records.group.numpy()[:, None]]
    return np.concatenate([score, *rest], 1)


def unique_conditions(
    rows: Floats, schema: Schema, generator: np.random.Generator
) -> list[tuple[int, tuple[int, ...]]]:
    """A synthetic row and the columns on which a condition made from it holds for no other, `CONDITIONS` at most."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(ATTEMPTS * CONDITIONS):
        if len(found) == CONDITIONS:
            break
        row = int(generator.integers(len(rows)))
        columns = tuple(sorted(generator.choice(rows.shape[1], min(COLUMNS, rows.shape[1]), replace=False).tolist()))
        if condition(rows, row, columns, schema)(rows).sum() == 1:
            found.append((row, columns))
    return found


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


def condition_parts(schema: Schema, made: Encoded, rows: np.typing.NDArray[np.int64]) -> dict[str, Flags]:
    """The parts that the synthetic rows behind conditions belong to."""
    group = made.group.numpy()[rows]
    found: dict[str, Flags] = {f"group {each.label}": group == index for index, each in enumerate(schema.groups)}
    return {**found, RAREST: rarest(features(schema, made))[rows]}
