"""Disclosure control of the schema: no category, edge or quantile point that stands for too few records.

Everything in a schema is derived from data unless `owner.toml` declares it. Categories with fewer records than
the policy's minimum are merged; the tails of numbers are top and bottom coded; every quantile point is a mean
of several neighbouring records, unless it is a value that many records share exactly. What says how many (shares of
groups, ranks of quantile points, rates on the card) counts records in tens and stands for the minimum on either side.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_owner.ingest import ColumnFacts, Records
from shared.errors import PolicyRefusal
from shared.schema import (
    MERGED,
    CategoricalColumn,
    ColumnRole,
    Group,
    ImageColumn,
    NumericColumn,
    Quantiles,
    Schema,
)

GRID = 32
"""Points of a quantile table at even ranks; towards an end or an atom there are more."""

ATOM_SHARE = 0.004
"""A value held by this share of records (and by the minimum count) is kept exactly."""


def disclose(
    records: Records, minimum_count: int, counted: NDArray[np.int64] | None = None
) -> tuple[Schema, pd.DataFrame]:
    """The schema that may leave, and the canonical table recoded to it.

    What a teacher will be trained on, rows `counted` or all, has `minimum_count` records behind each category, class
    and group. Raises `PolicyRefusal` if that is not so of a class or group; categories are merged until it is.
    """
    table = records.frame.copy()
    counted = np.arange(len(table)) if counted is None else counted
    columns: list[NumericColumn | CategoricalColumn | ImageColumn] = []
    for facts in records.columns:
        values = table[facts.name]
        if facts.image is not None:
            columns.append(facts.image)
        elif facts.kind in ("category", "boolean"):
            if facts.role is ColumnRole.FEATURE and facts.declared_categories is None:
                values = table[facts.name] = merge_rare(values, minimum_count, counted)
                _require(
                    values.nunique(dropna=False) > 1,
                    facts.name,
                    "every category but one",
                    'group its categories into fewer, or set kind = "exclude" in owner.toml',
                )
            if facts.role is ColumnRole.TARGET:
                check_classes(values.iloc[counted], facts.name, minimum_count)
            columns.append(_categorical(facts, values))
        else:
            columns.append(_numeric(facts, values, minimum_count, counted))
    sensitive = [facts.name for facts in records.columns if facts.role is ColumnRole.SENSITIVE]
    counts = table.groupby(sensitive, sort=True).size()
    trained = table.iloc[counted].groupby(sensitive).size().reindex(counts.index, fill_value=0)
    _require(
        int(trained.min()) >= minimum_count,
        ", ".join(sensitive),
        "a sensitive group",
        'add records, or set small_groups = "merge" in [policy]',
    )
    groups = tuple(
        Group(values=key if isinstance(key, tuple) else (key,), share=share)
        for key, share in zip(counts.index, shares(counts.to_numpy()), strict=True)
    )
    return Schema(columns=tuple(columns), positive=records.positive, groups=groups), table


def tens(count: float) -> int:
    """The nearest ten; a half goes up, so that counts ten apart stay apart."""
    return int(np.floor(count / 10.0 + 0.5)) * 10


def shares(counts: NDArray[np.int64]) -> list[float]:
    """Each count's share of all, to three digits, from counts in tens: it tells no count more closely than those."""
    rounded = [max(tens(count), 10) for count in counts]
    return [max(round(count / sum(rounded), 3), 0.001) for count in rounded]


def publishable_rate(rate: float, records: int, minimum_count: int) -> float | None:
    """A rate to two digits, or None if fewer records than the minimum are behind it or behind its complement."""
    within = round(rate * records)
    return round(rate, 2) if min(within, records - within) >= minimum_count else None


def check_classes(values: pd.Series, name: str, minimum_count: int) -> None:
    """Raises `PolicyRefusal` if a class of the target has fewer records."""
    _require(
        int(values.value_counts().min()) >= minimum_count,
        name,
        "a class of the target",
        "join the rarest class with another in the file, or leave its rows out",
    )


def merge_rare(values: pd.Series, minimum_count: int, counted: NDArray[np.int64] | None = None) -> pd.Series:
    """Recode categories (and missing) with fewer than `minimum_count` records to `MERGED`, counting rows `counted`.

    If those are still too few together they take the commonest one's place: a few gaps cost no category its name.
    """
    counts = values.value_counts(dropna=False, ascending=True, sort=True)
    if counted is not None:
        found = values.iloc[counted].value_counts(dropna=False)
        counts = found.reindex(counts.index, fill_value=0).sort_values(kind="stable")
    small = counts < minimum_count
    if not small.any():
        return values
    rare = counts.index[small]
    recoded = values.isin(rare[rare.notna()]) | (values.isna() & bool(rare.isna().any()))
    return values.mask(recoded, MERGED if counts[small].sum() >= minimum_count else counts.index[-1])


def quantile_table(
    values: NDArray[np.float64], minimum_count: int, decimals: int, bounds: tuple[float, float] | None = None
) -> Quantiles:
    """The inverse distribution function of `values` (n,) with no point that stands for too few records.

    Beside an atom it jumps, so that nothing is made up between weights and a 999 for those who were not weighed.
    Depends on shares and not on counts once `ATOM_SHARE` of n reaches `minimum_count`, so it does not grow with n.
    """
    ordered = np.sort(values)
    count = len(ordered)
    need = max(minimum_count, int(np.ceil(ATOM_SHARE * count)))
    if bounds is None:
        edge = min(need, count)
        ordered = np.clip(ordered, _together(ordered[:edge]), _together(ordered[-edge:]))
    low, high = bounds if bounds is not None else (float(ordered[0]), float(ordered[-1]))
    ordered = _few_join_an_atom(ordered, need)
    points: list[tuple[float, float]] = []
    last = 0
    for start, stop in [*_atoms(ordered, need), (count, count)]:
        if last < start:
            points += [(0, low)] if last == 0 else []
            points += _between_atoms(ordered, last, start, need)
            points += [(count, high)] if start == count else []
        if start < stop:
            points += [(place, float(ordered[start])) for place in (start, stop)]
        last = stop
    ranks = [round(min(tens(place) / max(tens(count), 10), 1.0), 4) for place, _ in points]
    ranks[0], ranks[-1] = 0.0, 1.0
    heights = np.maximum.accumulate(np.round([height for _, height in points], decimals)).tolist()
    return Quantiles(ranks=tuple(ranks), values=tuple(heights))


def _atoms(ordered: NDArray[np.float64], need: int) -> list[tuple[int, int]]:
    """Where each value that `need` records share begins and ends, in order."""
    _, first, counts = np.unique(ordered, return_index=True, return_counts=True)
    return [(int(start), int(start + size)) for start, size in zip(first, counts, strict=True) if size >= need]


def _few_join_an_atom(ordered: NDArray[np.float64], need: int) -> NDArray[np.float64]:
    """Fewer than `need` records between two atoms are spread evenly there if that is about how they lie; else they join
    the nearer atom: a few of ninety and more between 89 and a 999 are not people of five hundred."""
    ordered = ordered.copy()
    for (_, stop), (start, _) in pairwise(_atoms(ordered, need)):
        if 0 < start - stop < need:
            below, above = ordered[stop - 1], ordered[start]
            middle = (ordered[stop:start].mean() - below) / (above - below)
            if abs(middle - 0.5) > 0.25:
                ordered[stop:start] = below if middle < 0.5 else above
    return ordered


def _between_atoms(ordered: NDArray[np.float64], start: int, stop: int, need: int) -> list[tuple[float, float]]:
    """Points (rank in records, value) from `start` to `stop`, where no atom is: on the grid and beside an atom."""
    count = len(ordered)
    points: list[tuple[float, float]] = []
    if stop - start < need:
        return points
    if start > 0:
        points.append((start, _together(ordered[start : start + need])))
    for place in _places(start, stop, count, need):
        middle = int(place)
        points.append((place, _together(ordered[max(middle - need // 2, 0) : middle + need // 2 + 1])))
    if stop < count:
        points.append((stop, _together(ordered[stop - need : stop])))
    return points


def _places(start: int, stop: int, count: int, need: int) -> list[float]:
    """Ranks in records between two atoms, at least `need` apart: a grid over the whole column, and towards either end
    `need` doubled again and again, for a heavy tail bends where the grid has its last point."""
    step = max(need, count / GRID)
    doubled = need * 2.0 ** np.arange(1, np.ceil(np.log2(step / need)))
    places: list[float] = []
    for place in np.sort(np.concatenate([np.arange(step, count, step), start + doubled, stop - doubled])):
        if start + need <= place <= stop - need and (not places or place >= places[-1] + need):
            places.append(float(place))
    return places


def _together(neighbours: NDArray[np.float64]) -> float:
    """One value for at least the minimum count of records: theirs if all share it, else their mean.

    To six digits, unless those would lead beyond the neighbours, whose ends are single records.
    """
    if neighbours[0] == neighbours[-1]:
        return float(neighbours[0])
    mean = float(neighbours.mean())
    rounded = float(f"{mean:.6g}")
    return rounded if neighbours[0] <= rounded <= neighbours[-1] else mean


def _numeric(facts: ColumnFacts, values: pd.Series, minimum_count: int, counted: NDArray[np.int64]) -> NumericColumn:
    present = values.to_numpy(float, na_value=np.nan)
    missing = int(np.isnan(present[counted]).sum())
    present = present[~np.isnan(present)]
    _require(
        len(present) >= minimum_count,
        facts.name,
        "what is there beside gaps",
        'set kind = "exclude" in owner.toml',
    )
    return NumericColumn(
        name=facts.name,
        kind=cast(Literal["number", "integer", "date"], facts.kind),
        dtype=facts.dtype,
        optional=missing >= minimum_count,
        quantiles=quantile_table(present, minimum_count, facts.decimals, facts.declared_bounds),
        decimals=facts.decimals,
        unit=facts.unit,
    )


def _categorical(facts: ColumnFacts, values: pd.Series) -> CategoricalColumn:
    found = sorted(values.dropna().unique())
    return CategoricalColumn(
        name=facts.name,
        kind=cast(Literal["category", "boolean"], facts.kind),
        dtype=facts.dtype,
        role=facts.role,
        optional=bool(values.isna().any()) if facts.role is ColumnRole.FEATURE else False,
        categories=facts.declared_categories or tuple(found),
    )


def _require(enough: bool, field: str, what: str, remedy: str) -> None:
    if not enough:
        raise PolicyRefusal(f"{what} has fewer records than policy.minimum_count", field=field, remedy=remedy)
