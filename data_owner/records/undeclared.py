"""Which cells have no place among what `owner.toml` declares. Under a budget they are read as missing, or as a bound.

For the owner's eyes: a step that refused by this, or a release that told of it, would answer outside the budget. Yet
what owner.toml declares is published, so the owner is told of no few cells and of no figure: a bound widened for one
would tell of that record.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from data_owner.records.ingest import declared_as
from data_owner.settings import ColumnSettings, OwnerSettings
from shared.canonical import Kind, canonical

Share = Literal["some", "most"]

LEAST, MOST = 0.05, 0.5
"""Below the first share of a column's cells nothing is said of them; beyond the second it is declared wrongly."""


def undeclared(table: pd.DataFrame, settings: OwnerSettings) -> dict[str, Share]:
    """Whether some or most of a column's cells, gaps aside, are no declared category or not within the bounds; of those
    columns where at least the policy's minimum count are. Raises `BadInput` for a column of a type that its kind does
    not have."""
    found: dict[str, Share] = {}
    for name, entry in settings.columns.items():
        cells = table[name].dropna()
        if entry.kind != "exclude" and len(cells):
            astray = int((~_has_place(cells, name, entry)).sum())
            if astray >= max(LEAST * len(cells), settings.policy.minimum_count):
                found[name] = "most" if astray > MOST * len(cells) else "some"
    return found


def in_words(found: dict[str, Share]) -> str:
    """What `undeclared` found and what to do about it; nothing for nothing."""
    if not found:
        return ""
    shares = ", ".join(f"{share} of {name}" for name, share in found.items())
    return (
        f"cells that owner.toml does not declare: {shares}; where categories are spelt otherwise or the unit is "
        "another, correct that from public knowledge; rare values stay outside and count as missing or as the bound"
    )


def _has_place(cells: pd.Series, name: str, entry: ColumnSettings) -> pd.Series:
    if entry.categories is not None:
        declared = entry.categories
        labels = canonical(cells, name, "category", gaps=True)
        return labels.map({label: declared_as(label, declared) for label in labels.dropna().unique()}).notna()
    if entry.limits is None:
        return cells.notna()
    kind: Kind = "date" if entry.kind == "date" else "integer" if entry.kind == "integer" else "number"
    return canonical(cells, name, kind, gaps=True).between(*entry.limits)
