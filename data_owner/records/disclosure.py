"""Disclosure control of the schema: no category, edge or quantile point that stands for too few records.

Everything in a schema is derived from data unless `owner.toml` declares it. Categories with fewer records than
the policy's minimum are merged; the tails of numbers are top and bottom coded; every quantile point is a mean
of several neighbouring records, unless it is a value that many records share exactly. What says how many (shares of
groups, ranks of quantile points) counts records in tens; a rate on the card has two digits, and the minimum is behind
it and its complement.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_owner.records.ingest import ColumnFacts, Records
from shared.errors import PolicyRefusal, together
from shared.schema import (
    MERGED,
    CategoricalColumn,
    Column,
    ColumnRole,
    Group,
    NumericColumn,
    Quantiles,
    Schema,
)

GRID = 32
"""Points of a quantile table at even ranks; towards an end or an atom there are more."""

ATOM_SHARE = 0.004
"""A value held by this share of records (and by the minimum count) is kept exactly."""


def disclose(
    records: Records, minimum_count: int, counted: NDArray[np.int64] | None = None, *, of_people: bool = True
) -> tuple[Schema, pd.DataFrame]:
    """The schema that may leave, and the canonical table recoded to it.

    What a teacher will be trained on, rows `counted` or all, has `minimum_count` records behind each category, class
    and group. Raises `PolicyRefusal` if that is not so of a class or group, or for a column that is left with one
    category or too few values; categories are merged until it is. Of microdata, which is not `of_people`, a declared
    range is used to its last record.
    """
    table = records.frame.copy()
    counted = np.arange(len(table)) if counted is None else counted
    columns: list[Column] = []
    refusals: list[PolicyRefusal] = []
    for facts in records.columns:
        try:
            column, table[facts.name] = _disclosed(facts, table[facts.name], minimum_count, counted, of_people)
            columns.append(column)
        except PolicyRefusal as refusal:
            refusals.append(refusal)
    if refusals:
        raise together(refusals)
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


def _disclosed(
    facts: ColumnFacts, values: pd.Series, minimum_count: int, counted: NDArray[np.int64], of_people: bool
) -> tuple[Column, pd.Series]:
    """A column of the schema, and its values with what is rare merged. Raises `PolicyRefusal` naming the column."""
    if facts.image is not None:
        return facts.image, values
    if facts.kind not in ("category", "boolean"):
        beyond = minimum_count if of_people or facts.declared_bounds is None else 0
        return _numeric(facts, values, minimum_count, counted, beyond), values
    if facts.role is ColumnRole.FEATURE:
        if facts.declared_categories is None:
            values = merge_rare(values, minimum_count, counted)
        elif int(values.iloc[counted].isna().sum()) < minimum_count:
            values = values.fillna(values.value_counts().index[0])
        _require(
            values.nunique(dropna=False) > 1,
            facts.name,
            "every category but one",
            'group its categories into fewer, or set kind = "exclude" in owner.toml',
        )
    if facts.role is ColumnRole.TARGET:
        check_classes(values.iloc[counted], facts.name, minimum_count)
    return _categorical(facts, values), values


def tens(count: float) -> int:
    """The nearest ten; a half goes up, so that counts ten apart stay apart."""
    return int(np.floor(count / 10.0 + 0.5)) * 10


def shares(counts: NDArray[np.int64]) -> list[float]:
    """Each count's share of all, from counts in tens, at least one unless it is nought: tells no count more closely."""
    rounded = [max(tens(count), 10) if count else 0 for count in counts]
    return [round(count / sum(rounded), 6) for count in rounded]


def publishable_rate(rate: float, records: int, minimum_count: int) -> float | None:
    """A rate to two digits, or None if fewer records than the minimum are behind it or behind its complement."""
    within = round(rate * records)
    return round(rate, 2) if min(within, records - within) >= minimum_count else None


def check_classes(values: pd.Series, name: str, minimum_count: int, where: str = "") -> None:
    """Raises `PolicyRefusal` if a class of the target has fewer records."""
    _require(
        int(values.value_counts().min()) >= minimum_count,
        name,
        f"a class of the target{where}",
        "join the rarest class with another in the file, or leave its rows out",
    )


def merge_rare_declared(records: Records, minimum_count: int, counted: NDArray[np.int64]) -> Records:
    """Records whose rare categories are merged where they are declared, too: that a category is public hides nobody who
    is among the few that have it. A column that merged some names those that are left, as if none were declared."""
    columns, merged = [], {}
    for facts in records.columns:
        if facts.role is ColumnRole.FEATURE and facts.declared_categories is not None:
            values = merged[facts.name] = merge_rare(records.frame[facts.name], minimum_count, counted)
            found = set(values.dropna())
            if MERGED in found:
                kept = [label for label in facts.declared_categories if label in found - {MERGED}]
                facts = replace(facts, declared_categories=(*kept, MERGED))
        columns.append(facts)
    return replace(records, frame=records.frame.assign(**merged), columns=tuple(columns))


def merge_rare(values: pd.Series, minimum_count: int, counted: NDArray[np.int64]) -> pd.Series:
    """Recode categories (and missing) with fewer than `minimum_count` records to `MERGED`, counting rows `counted`.

    If those are still too few together they take the commonest one's place: a few gaps cost no category its name.
    """
    found = values.value_counts(dropna=False, ascending=True).index
    counts = values.iloc[counted].value_counts(dropna=False).reindex(found, fill_value=0).sort_values(kind="stable")
    small = counts < minimum_count
    if not small.any():
        return values
    rare = counts.index[small]
    recoded = values.isin(rare[rare.notna()]) | (values.isna() & bool(rare.isna().any()))
    return values.mask(recoded, MERGED if counts[small].sum() >= minimum_count else counts.index[-1])


def quantile_table(
    values: NDArray[np.float64],
    minimum_count: int,
    decimals: int,
    bounds: tuple[float, float] | None,
    beyond: int,
) -> Quantiles:
    """The inverse distribution function of `values` (n,) with no point that stands for too few records.

    Each point is an atom or a mean of records that no other point is made of, so points tell no record between them.
    Beyond either end lie `beyond` records that no point is made of: a few outliers move nothing, for of declared
    `bounds` only the end is public. Beside an atom the table jumps, so that nothing is made up between weights and a
    999 for those who were not weighed.
    """
    ordered = np.sort(values)
    count = len(ordered)
    need = max(minimum_count, int(np.ceil(ATOM_SHARE * count)))
    ordered = _few_join_an_atom(ordered, need, beyond)
    atoms = _atoms(ordered, need)
    points: list[tuple[float, float]] = []
    last = 0
    for start, stop in [*atoms, (count, count)]:
        points += _between_atoms(ordered, last, start, need, beyond)
        if start < stop:
            points += [(place, float(ordered[start])) for place in (start, stop)]
        last = stop
    if bounds is not None:
        within = [point for point in points if 0 < point[0] < count]
        is_atom = bool(atoms) and atoms[0][0] == 0, bool(atoms) and atoms[-1][1] == count
        points = [
            points[0] if is_atom[0] else (0, bounds[0]),
            *within,
            points[-1] if is_atom[1] else (count, bounds[1]),
        ]
    points = points or [(place, _together(ordered)) for place in (0, count)]
    ranks = [round(min(tens(place) / max(tens(count), 10), 1.0), 4) for place, _ in points]
    ranks[0], ranks[-1] = 0.0, 1.0
    heights = np.maximum.accumulate(np.round([height for _, height in points], decimals))
    if bounds is not None:
        heights = heights.clip(*_rounded_inwards(bounds, decimals))
    return Quantiles(ranks=tuple(ranks), values=tuple(heights.tolist()))


def _rounded_inwards(bounds: tuple[float, float], decimals: int) -> tuple[float, float]:
    """Bounds may have more decimals than the records: rounded to the nearest, values would pass them."""
    low, high = (round(bound, decimals) for bound in bounds)
    low = low if low >= bounds[0] else round(low + 10.0**-decimals, decimals)
    high = high if high <= bounds[1] else round(high - 10.0**-decimals, decimals)
    return low, high


def _atoms(ordered: NDArray[np.float64], need: int) -> list[tuple[int, int]]:
    """Where each value that `need` records share begins and ends, in order."""
    _, first, counts = np.unique(ordered, return_index=True, return_counts=True)
    return [(int(start), int(start + size)) for start, size in zip(first, counts, strict=True) if size >= need]


def _few_join_an_atom(ordered: NDArray[np.float64], need: int, outermost: int) -> NDArray[np.float64]:
    """Too few records for a point of their own, beyond the first or last atom, join it. Between two atoms they are
    spread evenly if that is about how they lie; else they join the nearer one: a few of ninety and more between 89 and
    a 999 are not people of five hundred."""
    ordered = ordered.copy()
    atoms = _atoms(ordered, need)
    for (_, stop), (start, _) in pairwise(atoms):
        if 0 < start - stop < need:
            below, above = ordered[stop - 1], ordered[start]
            middle = (ordered[stop:start].mean() - below) / (above - below)
            if abs(middle - 0.5) > 0.25:
                ordered[stop:start] = below if middle < 0.5 else above
    if atoms and outermost:
        first, last = atoms[0][0], atoms[-1][1]
        if first < need + outermost:
            ordered[:first] = ordered[first]
        if len(ordered) - last < need + outermost:
            ordered[last:] = ordered[last - 1]
    return ordered


def _between_atoms(
    ordered: NDArray[np.float64], start: int, stop: int, need: int, outermost: int
) -> list[tuple[float, float]]:
    """Points (rank in records, value) from `start` to `stop`, where no atom is: at both, and on a grid between.

    Of fewer records than two points need, both are the mean; of fewer than one needs, there is none.
    """
    count = len(ordered)
    first = start + (outermost if start == 0 else 0)
    end = stop - (outermost if stop == count else 0)
    if end - first < need:
        return []
    apart = end - first >= 2 * need
    points = [(float(start), _together(ordered[first : first + need if apart else end]))]
    for place in _places(first, end, count, need):
        points.append((place, _together(ordered[int(place) - need // 2 :][:need])))
    return [*points, (float(stop), _together(ordered[end - need if apart else first : end]))]


def _places(first: int, end: int, count: int, need: int) -> list[float]:
    """Ranks in records for points between the two at `first` and `end`, so far apart that each has `need` records of
    its own: a grid over the whole column, and towards either end `need` doubled again and again, for a heavy tail bends
    where the grid has its last point."""
    step = max(need, count / GRID)
    doubled = need * 2.0 ** np.arange(1, np.ceil(np.log2(step / need)))
    places: list[float] = []
    for place in np.sort(np.concatenate([np.arange(step, count, step), first + doubled, end - doubled])):
        if first + 1.5 * need <= place <= end - 1.5 * need and (not places or place >= places[-1] + need):
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


def _numeric(
    facts: ColumnFacts, values: pd.Series, minimum_count: int, counted: NDArray[np.int64], beyond: int
) -> NumericColumn:
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
        quantiles=quantile_table(present, minimum_count, facts.decimals, facts.declared_bounds, beyond),
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
