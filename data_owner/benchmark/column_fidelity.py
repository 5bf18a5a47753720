"""What a synthetic table keeps of each column: repeated values, whole numbers, rare categories, missing values, and
how columns hang together. Tables are canonical."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np
import pandas as pd
from pydantic import Field

from shared.associations import associations
from shared.distances import column_distance, total_variation
from shared.frozen import Frozen
from shared.schema import CategoricalColumn, NumericColumn, Schema

REPEATED = 0.01
"""A number that at least this share of real values, and two of them, equal is a repeated one."""

RARE = 0.01
"""A category of at most this share of real rows is rare."""


class ColumnFidelity(Frozen):
    """One column of a synthetic table against a real one.

    `distance`: between the values that are present, Kolmogorov's for numbers and total variation for categories.
    `repeated`: of the real rows at repeated values, the share that synthetic rows match value by value. `whole`: the
    share of synthetic numbers with no more decimal places than the column has. `rare`: the share of rare real
    categories that occur. `missing`: difference between the shares of missing values. None where a column has no
    such thing.
    """

    name: str
    distance: float = Field(ge=0.0, le=1.0)
    repeated: float | None = Field(default=None, ge=0.0, le=1.0)
    whole: float | None = Field(default=None, ge=0.0, le=1.0)
    rare: float | None = Field(default=None, ge=0.0, le=1.0)
    missing: float | None = Field(default=None, ge=0.0, le=1.0)

    @classmethod
    def mean(cls, found: list[Self]) -> Self:
        """Of one column over several comparisons."""
        figures = {name: mean_of(getattr(one, name) for one in found) for name in FIGURES}
        return cls.model_validate({"name": found[0].name, **figures})


FIGURES = tuple(name for name in ColumnFidelity.model_fields if name != "name")


class TableFidelity(Frozen):
    """Every column, and what only a whole table has.

    `patterns`: total variation between the joint patterns of missing values, None if no column can miss any.
    `associations`: mean absolute difference of the pairwise associations.
    """

    columns: tuple[ColumnFidelity, ...]
    patterns: float | None = Field(default=None, ge=0.0, le=1.0)
    associations: float = Field(ge=0.0, le=2.0)

    @classmethod
    def mean(cls, found: list[Self]) -> Self:
        return cls(
            columns=tuple(
                ColumnFidelity.mean(list(each)) for each in zip(*(one.columns for one in found), strict=True)
            ),
            patterns=mean_of(one.patterns for one in found),
            associations=float(np.mean([one.associations for one in found])),
        )

    def over_columns(self, figure: str) -> float | None:
        """Mean of one of `FIGURES` over the columns that have it."""
        return mean_of(getattr(column, figure) for column in self.columns)


def table_fidelity(real: pd.DataFrame, other: pd.DataFrame, schema: Schema) -> TableFidelity:
    """Of `other` against `real`."""
    upper = np.triu_indices(len(schema.tabular), 1)
    apart = np.abs(associations(schema, real)[upper] - associations(schema, other)[upper])
    optional = [column.name for column in schema.tabular if column.optional]
    return TableFidelity(
        columns=tuple(
            _number(column, real[column.name], other[column.name])
            if isinstance(column, NumericColumn)
            else _category(column, real[column.name], other[column.name])
            for column in schema.tabular
        ),
        patterns=total_variation(_patterns(real[optional]), _patterns(other[optional])) if optional else None,
        associations=float(apart.mean()),
    )


def _number(column: NumericColumn, real: pd.Series, other: pd.Series) -> ColumnFidelity:
    values, others = (each.dropna().to_numpy(float) for each in (real, other))
    found, counts = np.unique(values, return_counts=True)
    often = counts >= max(2.0, REPEATED * len(values))
    atoms, share = found[often], counts[often] / len(values)
    repeats = np.array([np.mean(others == atom) if len(others) else 0.0 for atom in atoms])
    on_grid = np.isclose(others, np.round(others, column.decimals), rtol=0.0, atol=1e-9)
    return ColumnFidelity(
        name=column.name,
        distance=column_distance(column, real, other),
        repeated=float(np.minimum(share, repeats).sum() / share.sum()) if len(atoms) else None,
        whole=float(on_grid.mean()) if len(others) else None,
        missing=_missing(real, other) if column.optional else None,
    )


def _category(column: CategoricalColumn, real: pd.Series, other: pd.Series) -> ColumnFidelity:
    shares = real.value_counts(normalize=True)
    rare = shares.index[shares <= RARE]
    return ColumnFidelity(
        name=column.name,
        distance=column_distance(column, real, other),
        rare=float(rare.isin(other).mean()) if len(rare) else None,
        missing=_missing(real, other) if column.optional else None,
    )


def _missing(real: pd.Series, other: pd.Series) -> float:
    return float(abs(real.isna().mean() - other.isna().mean()))


def _patterns(table: pd.DataFrame) -> pd.Series:
    """Share of rows with each combination of missing columns."""
    return table.isna().value_counts(normalize=True)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the values that there are."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None
