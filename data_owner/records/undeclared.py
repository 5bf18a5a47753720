"""Which cells have no place among what `owner.toml` declares. Under a budget they are read as missing, or as a bound.

For the owner's eyes: a step that refused by this, or a release that told of it, would answer outside the budget.
"""

from __future__ import annotations

import pandas as pd

from data_owner.records.ingest import declared_as
from data_owner.settings import ColumnSettings, OwnerSettings
from shared.canonical import Kind, canonical

MOST = 0.5
"""Beyond this share a column is declared wrongly, not filled in wrongly."""


def undeclared(table: pd.DataFrame, settings: OwnerSettings) -> dict[str, float]:
    """Share of a column's cells, gaps aside, that are no declared category or not within the bounds; of those columns
    that have any. Raises `BadInput` for a column of a type that its kind does not have."""
    found = {}
    for name, entry in settings.columns.items():
        cells = table[name].dropna()
        if entry.kind != "exclude" and len(cells):
            found[name] = 1.0 - float(_has_place(cells, name, entry).mean())
    return {name: share for name, share in found.items() if share > 0.0}


def in_words(found: dict[str, float]) -> str:
    """What `undeclared` found and what to do about it; nothing for nothing."""
    if not found:
        return ""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in found.items())
    return (
        f"cells that owner.toml does not declare: {shares}; correct its categories and bounds, spelt as the records are"
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
