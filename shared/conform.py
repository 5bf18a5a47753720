"""Bringing any table of the right columns into a schema's canonical form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from shared.canonical import canonical
from shared.errors import BadInput, together
from shared.image_codec import canonical_images
from shared.schema import (
    LARGEST,
    MERGED,
    MISSING,
    CategoricalColumn,
    Column,
    ColumnRole,
    ImageColumn,
    NumericColumn,
    Schema,
)

LISTED = 10
"""Names in a list of them, at most."""


def conform(schema: Schema, table: pd.DataFrame) -> pd.DataFrame:
    """Canonical columns of the schema. A category that it does not know becomes the merged one, where it has that, as
    does a gap where the column has no place for gaps; so does a combination of sensitive values.

    Raises `BadInput` naming every column that is absent, or that holds what the schema has no place for.
    """
    columns, problems = {}, []
    for column in schema.columns:
        try:
            columns[column.name] = _column(column, table)
        except BadInput as problem:
            problems.append(problem)
    if problems:
        raise together(problems)
    return merged_groups(schema, pd.DataFrame(columns))


def _column(column: Column, table: pd.DataFrame) -> pd.Series:
    if column.name not in table.columns:
        raise BadInput("the table lacks this column", field=column.name, remedy="give all of the schema's columns")
    values = table[column.name]
    if isinstance(column, ImageColumn):
        return canonical_images(values, column)
    if isinstance(column, NumericColumn):
        numbers = _canonical(values, column, column.unit)
        if bool((numbers.abs() > LARGEST).any()):
            raise BadInput(f"holds a number beyond {LARGEST:g}", field=column.name, remedy="leave those cells empty")
        return numbers
    labels = _canonical(values, column)
    if column.role is ColumnRole.SENSITIVE and MISSING in column.categories:
        labels = labels.fillna(MISSING)
    unknown = ~labels.isin(column.categories) & (labels.notna() | (not column.optional))
    if bool(unknown.any()) and MERGED not in column.categories:
        only_gaps = bool(labels[unknown].isna().all())
        raise BadInput(
            "has gaps, and the schema none" if only_gaps else "holds a category that the schema does not know",
            field=column.name,
            remedy=f"remove those rows, or recode them: it knows {listed(column.categories)}",
        )
    return labels.mask(unknown, MERGED)


def merged_groups(schema: Schema, table: pd.DataFrame) -> pd.DataFrame:
    """Joint sensitive values that are no group put into the merged one, where the schema has it."""
    names = [column.name for column in schema.sensitive]
    groups = [group.values for group in schema.groups]
    if (MERGED,) * len(names) not in groups:
        return table
    known = pd.MultiIndex.from_frame(table[names]).isin(groups)
    return table.assign(**{name: table[name].where(known, MERGED) for name in names})


def listed(names: Sequence[str]) -> str:
    """The first `LISTED` of them, and how many more there are."""
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _canonical(
    values: pd.Series, column: NumericColumn | CategoricalColumn, unit: Literal["D", "s"] = "D"
) -> pd.Series:
    """The column in canonical form. Its kind was settled by the owner: the remedy is to give what it says."""
    try:
        return canonical(values, column.name, column.kind, unit)
    except BadInput as error:
        raise BadInput(
            error.problem, field=error.field, remedy=f"the schema says {column.kind}: give that, or leave cells empty"
        ) from None
