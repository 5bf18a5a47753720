"""The public domain of each column: the cells its values can fall in, known before a record is looked at.

Everything here comes from what owner.toml declares and from the format of the table (names and data types). Records
are held to it at ingestion, so neighbours are tables over this domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_owner.records.ingest import ColumnFacts
from data_owner.settings import MOST_DECIMALS, ColumnSettings, OwnerSettings
from shared.canonical import EXACT, restore_column
from shared.codec import labels
from shared.errors import PolicyRefusal
from shared.schema import MISSING, CategoricalColumn, ColumnRole, NumericColumn, Quantiles

STEPS = 1000
"""A number whose decimals are not declared is kept to at least so many steps between its bounds."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class NumericDomain:
    """Cells `low`, `low` + 10^-decimals, ... to `high` and a last one for missing. Dates count days."""

    facts: ColumnFacts
    low: float
    high: float
    cells: int
    decimals: int

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def has_missing(self) -> bool:
        return True

    def encode(self, values: pd.Series) -> Integers:
        """Cell of each canonical value, (n,)."""
        numbers = values.to_numpy(float, na_value=np.nan)
        cell = np.rint((np.nan_to_num(numbers, nan=self.low) - self.low) * 10.0**self.decimals)
        return np.where(np.isnan(numbers), self.cells - 1, np.clip(cell, 0, self.cells - 2)).astype(np.int64)

    def decode(self, cells: Integers) -> pd.Series:
        """Values of the table's own type, of cells (n,)."""
        present = np.round(self.low + cells / 10.0**self.decimals, self.decimals)
        # bounds that are no multiple of the steps would be rounded past
        values = np.where(cells == self.cells - 1, np.nan, np.clip(present, self.low, self.high))
        return restore_column(
            pd.Series(values),
            NumericColumn(
                name=self.name,
                kind=cast(Literal["number", "integer", "date"], self.facts.kind),
                dtype=self.facts.dtype,
                optional=True,
                quantiles=Quantiles(ranks=(0.0, 1.0), values=(self.low, self.low + 1.0)),
            ),
        )


@dataclass(frozen=True)
class CategoricalDomain:
    """A cell a declared category and, unless it is the target, a last one for missing."""

    facts: ColumnFacts
    categories: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def has_missing(self) -> bool:
        return self.facts.role is not ColumnRole.TARGET

    @property
    def cells(self) -> int:
        return len(self.categories) + self.has_missing

    def encode(self, values: pd.Series) -> Integers:
        found = pd.Index(self.categories).get_indexer(pd.Index(values.mask(values == MISSING)))
        return np.where(found < 0, len(self.categories), found).astype(np.int64)

    def decode(self, cells: Integers) -> pd.Series:
        kind = cast(Literal["category", "boolean"], self.facts.kind)
        column = CategoricalColumn(
            name=self.name, kind=kind, dtype=self.facts.dtype, optional=True, categories=self.categories
        )
        return restore_column(labels(column, cells), column)


Domain = NumericDomain | CategoricalDomain


def domains(columns: tuple[ColumnFacts, ...], settings: OwnerSettings) -> tuple[Domain, ...]:
    """The domain of every column. Raises `PolicyRefusal` naming all that declare neither bounds nor categories, and for
    bounds of too many cells, of which no model could be made once a draw was charged."""
    lacking = {facts.name: _undeclared(facts, settings.columns[facts.name]) for facts in columns}
    undeclared = {name: setting for name, setting in lacking.items() if setting is not None}
    if undeclared:
        raise PolicyRefusal(
            "with privacy.epsilon, what a column can hold must be declared: derived from the records it would leak",
            field=", ".join(undeclared),
            remedy="write into owner.toml, from public knowledge and not from the records: "
            + "; ".join(f"{name}: {setting}" for name, setting in undeclared.items())
            + "; and of each see that its kind is right: it was guessed from the records",
        )
    return tuple(_domain(facts, settings.columns[facts.name]) for facts in columns)


def _undeclared(facts: ColumnFacts, entry: ColumnSettings) -> str | None:
    """The setting that a column lacks, as it is written into owner.toml."""
    if facts.kind in ("category", "boolean"):
        return 'categories = ["...", "..."]' if entry.categories is None else None
    if entry.limits is not None:
        return None
    return 'bounds = ["YYYY-MM-DD", "YYYY-MM-DD"]' if facts.kind == "date" else "bounds = [low, high]"


def _domain(facts: ColumnFacts, entry: ColumnSettings) -> Domain:
    if entry.categories is not None:
        return CategoricalDomain(facts, tuple(label for label in entry.categories if label != MISSING))
    assert entry.limits is not None
    low, high = entry.limits
    width, decimals = min(high - low, 2.0 * EXACT), 0
    if facts.kind == "number":
        decimals = enough_decimals(width) if entry.decimals is None else entry.decimals
    cells = round(width * 10**decimals) + 2
    if cells > EXACT:
        raise PolicyRefusal(
            "its bounds are too far apart for its decimals",
            field=facts.name,
            remedy="give narrower bounds in owner.toml, or fewer decimals",
        )
    return NumericDomain(facts, low, high, cells, decimals)


def enough_decimals(width: float) -> int:
    """Decimals that give a range of this width at least `STEPS` steps, at most `MOST_DECIMALS`."""
    return int(np.clip(np.ceil(log10(STEPS / width)), 0, MOST_DECIMALS))
