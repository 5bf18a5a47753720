"""Ingestion: from a table and `owner.toml` to canonical records, or a precise reason why not.

`infer` proposes what each column is; a person decides. `ingest` holds the table to what was decided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from data_owner.settings import ColumnSettings, OwnerSettings, Policy
from shared.errors import BadInput, PolicyRefusal
from shared.limits import LIMITS
from shared.schema import MERGED, MISSING, Role
from shared.table import ISO_TEXT, Kind, canonical, check_names

LEAST_ROWS = 100
FREE_TEXT_CHARACTERS = 40
FREE_TEXT_SHARE = 0.2
IDENTIFIER_NAME = re.compile(r"(^|[^a-z])(id|ids|uuid|guid|mrn|ssn|key|number|nr|no)$", re.IGNORECASE)
ISO_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$")
TWO_WORDS = ({"yes", "no"}, {"true", "false"}, {"y", "n"}, {"t", "f"}, {"0", "1"})


@dataclass(frozen=True)
class ColumnFacts:
    """One column as it will be modelled. `dtype` is what it is given back in."""

    name: str
    kind: Kind
    dtype: str
    role: Role
    decimals: int = 0
    unit: Literal["D", "s"] = "D"
    declared_categories: tuple[str, ...] | None = None
    declared_bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Records:
    """A canonical table, what its columns are, and the positive class of the target."""

    frame: pd.DataFrame
    columns: tuple[ColumnFacts, ...]
    positive: str


def infer(
    table: pd.DataFrame,
    *,
    name: str,
    source: str,
    target: str,
    sensitive: tuple[str, ...],
    positive: str | None = None,
) -> OwnerSettings:
    """Propose settings. Raises `BadInput` when the named columns cannot play their part.

    The positive class is `positive`, else "1", "True" or "yes", else the rarer class.
    """
    check_names([str(column) for column in table.columns])
    for column in (target, *sensitive):
        if column not in table.columns:
            raise BadInput("there is no such column", field=column, remedy="check the spelling of the name")
    if target in sensitive:
        raise BadInput("both target and sensitive", field=target, remedy="choose two different columns")
    columns = {column: _guess(table[column]) for column in table.columns}
    for column in (target, *sensitive):
        role: Literal["target", "sensitive"] = "target" if column == target else "sensitive"
        kind: Literal["boolean", "category"] = "boolean" if columns[column].kind == "boolean" else "category"
        columns[column] = ColumnSettings(kind=kind, role=role)
    classes = canonical(table[target], target, "category").dropna()
    check_target(classes, target)
    if positive is None:
        likely = [label for label in classes.unique() if label.lower() in ("1", "true", "yes")]
        positive = str(likely[0] if likely else classes.value_counts().index[-1])
    if positive not in set(classes):
        raise BadInput("not a class of the target", field="--positive", remedy="name one of its two classes")
    return OwnerSettings(name=name, source=source, positive=positive, policy=Policy(), columns=columns)


def ingest(table: pd.DataFrame, settings: OwnerSettings) -> Records:
    """Canonical records. Raises `BadInput` or `PolicyRefusal` naming the column and the remedy."""
    check_names([str(column) for column in table.columns])
    if len(table) < LEAST_ROWS:
        raise BadInput(f"fewer than {LEAST_ROWS} rows", field="table", remedy="add records")
    unknown = [column for column in table.columns if column not in settings.columns]
    if unknown:
        raise BadInput("owner.toml does not know this column", field=unknown[0], remedy="add or exclude it there")
    absent = [column for column in settings.columns if column not in table.columns]
    if absent:
        raise BadInput("the table lacks this column", field=absent[0], remedy="remove it from owner.toml")
    undecided = [column for column, entry in settings.columns.items() if entry.kind == "undecided"]
    if undecided:
        raise PolicyRefusal(
            f"needs a decision: {settings.columns[undecided[0]].reason}",
            field=undecided[0],
            remedy='set its kind in owner.toml, "exclude" to leave it out',
        )
    facts, columns = [], {}
    for name, entry in settings.columns.items():
        if entry.kind == "exclude":
            continue
        fact, values = _column(table[name], name, entry)
        facts.append(fact)
        columns[name] = values
    frame = pd.DataFrame(columns)
    roles = {fact.name: fact.role for fact in facts}
    (target,) = (name for name, role in roles.items() if role is Role.TARGET)
    sensitive = [name for name, role in roles.items() if role is Role.SENSITIVE]
    check_target(frame[target], target)
    if settings.positive not in set(frame[target]):
        raise BadInput("not a class of the target", field="positive", remedy="correct it in owner.toml")
    frame = _with_groups(frame, sensitive, settings.policy)
    return Records(frame, tuple(facts), settings.positive)


def check_target(values: pd.Series, name: str) -> None:
    """Raises `BadInput` unless the target has two classes and no gap."""
    if bool(values.isna().any()):
        raise BadInput("the target has missing values", field=name, remedy="remove those rows")
    classes = values.nunique()
    if classes < 2:
        raise BadInput("the target is constant", field=name, remedy="choose a column with two classes")
    if classes > 2:
        raise BadInput(
            f"the target has {classes} classes",
            field=name,
            remedy="recode it to two, or choose another column",
        )


def _column(values: pd.Series, name: str, entry: ColumnSettings) -> tuple[ColumnFacts, pd.Series]:
    if bool(values.isna().all()):
        raise BadInput("every value is missing", field=name, remedy='set kind = "exclude" in owner.toml')
    if entry.kind in ("category", "boolean"):
        return _labels(values, name, entry)
    unit: Literal["D", "s"] = "D"
    if entry.kind == "date":
        seconds = canonical(values, name, "date", "s")
        unit = "D" if bool((seconds.dropna() % 86_400 == 0).all()) else "s"
    kind: Kind = "number" if entry.kind == "number" else "integer" if entry.kind == "integer" else "date"
    numbers = canonical(values, name, kind, unit)
    present = numbers.dropna()
    if present.nunique() < 2:
        raise BadInput("the column is constant", field=name, remedy='set kind = "exclude" in owner.toml')
    if kind == "integer" and bool((present % 1 != 0).any()):
        raise BadInput("holds numbers that are not whole", field=name, remedy='set kind = "number"')
    if entry.bounds is not None and not bool(present.between(*entry.bounds).all()):
        raise BadInput("holds values outside its bounds", field=name, remedy="widen them in owner.toml")
    fact = ColumnFacts(
        name=name,
        kind=kind,
        dtype=_dtype(values, kind),
        role=Role.FEATURE,
        decimals=_decimals(present) if kind == "number" else 0,
        unit=unit,
        declared_bounds=entry.bounds,
    )
    return fact, numbers


def _labels(values: pd.Series, name: str, entry: ColumnSettings) -> tuple[ColumnFacts, pd.Series]:
    kind: Kind = "boolean" if entry.kind == "boolean" else "category"
    labels = canonical(values, name, kind)
    if entry.role == "sensitive":
        labels = labels.fillna(MISSING)
    found = labels.dropna().unique()
    if len(found) > LIMITS.categories:
        raise BadInput(
            f"more than {LIMITS.categories} categories",
            field=name,
            remedy='group them, or set kind = "exclude" in owner.toml',
        )
    if kind == "boolean" and len(found) > 2:
        raise BadInput("a boolean with more than two values", field=name, remedy='set kind = "category"')
    if len(found) < 2 and entry.role == "feature" and not bool(labels.isna().any()):
        raise BadInput("the column is constant", field=name, remedy='set kind = "exclude" in owner.toml')
    if any(len(label) > LIMITS.name_characters for label in found):
        raise BadInput("holds long text", field=name, remedy='set kind = "exclude" in owner.toml')
    if entry.categories is not None and not set(found) <= {*entry.categories, MISSING}:
        raise BadInput(
            "holds a category that owner.toml does not declare",
            field=name,
            remedy="declare it there, or correct the records",
        )
    fact = ColumnFacts(
        name=name,
        kind=kind,
        dtype=_dtype(values, kind),
        role=Role(entry.role),
        declared_categories=entry.categories,
    )
    return fact, labels


def _with_groups(frame: pd.DataFrame, sensitive: list[str], policy: Policy) -> pd.DataFrame:
    """Merge joint groups under the policy's minimum, when it says so, else refuse them."""
    field = ", ".join(sensitive)
    sizes = frame.groupby(sensitive, sort=False)[sensitive[0]].transform("size")
    small = sizes < policy.minimum_count
    if bool(small.any()):
        if policy.small_groups == "refuse":
            raise PolicyRefusal(
                f"a sensitive group has fewer than {policy.minimum_count} records",
                field=field,
                remedy='set small_groups = "merge" in [policy] of owner.toml, or remove those rows',
            )
        # joined by the next smallest groups until the merged one is large enough itself
        for size in sorted(sizes[~small].unique()):
            if small.sum() >= policy.minimum_count:
                break
            small |= sizes == size
        frame = frame.assign(**{name: frame[name].mask(small, MERGED) for name in sensitive})
    if len(frame.drop_duplicates(sensitive)) < 2:
        raise BadInput("there is only one group", field=field, remedy="choose a column with two or more groups")
    return frame


def _guess(values: pd.Series) -> ColumnSettings:
    """The likely kind of a column, or "undecided" with the reason why a person must look."""
    present = values.dropna()
    name = str(values.name)
    if present.empty:
        return ColumnSettings(kind="undecided", reason="every value is missing")
    distinct = present.nunique()
    if distinct == 1 and len(present) == len(values):
        return ColumnSettings(kind="undecided", reason="constant")
    if pd.api.types.is_bool_dtype(present):
        return ColumnSettings(kind="boolean")
    if pd.api.types.is_datetime64_any_dtype(present):
        return ColumnSettings(kind="date")
    if pd.api.types.is_numeric_dtype(present):
        return _guess_number(present.astype("float64"), distinct, name)
    return _guess_text(present.astype("str"), distinct, name)


def _guess_number(present: pd.Series, distinct: int, name: str) -> ColumnSettings:
    whole = bool((present[np.isfinite(present)] % 1 == 0).all())
    if whole and set(present.unique()) <= {0.0, 1.0}:
        return ColumnSettings(kind="boolean")
    if whole and distinct == len(present) and (_is_counter(present) or IDENTIFIER_NAME.search(name)):
        return ColumnSettings(kind="undecided", reason="looks like an identifier: every value is different")
    return ColumnSettings(kind="integer" if whole else "number")


def _guess_text(present: pd.Series, distinct: int, name: str) -> ColumnSettings:
    if bool(present.str.fullmatch(ISO_DATE).all()):
        return ColumnSettings(kind="date")
    if bool(pd.to_numeric(present, errors="coerce").notna().mean() > 0.9):
        return ColumnSettings(kind="undecided", reason="mixes numbers with other text")
    if distinct > 0.9 * len(present) or (distinct == len(present) and IDENTIFIER_NAME.search(name)):
        return ColumnSettings(kind="undecided", reason="looks like an identifier or free text: few values repeat")
    if distinct > LIMITS.categories:
        return ColumnSettings(kind="undecided", reason=f"has more than {LIMITS.categories} categories")
    if bool(present.str.len().mean() > FREE_TEXT_CHARACTERS) and distinct > FREE_TEXT_SHARE * len(present):
        return ColumnSettings(kind="undecided", reason="looks like free text: long and seldom repeated")
    two = {label.lower() for label in present.unique()} if distinct == 2 else set()
    return ColumnSettings(kind="boolean" if two in TWO_WORDS else "category")


def _is_counter(present: pd.Series) -> bool:
    """Whether whole numbers, all different, leave few gaps: row numbers and keys do."""
    return bool(present.max() - present.min() < 2 * len(present))


def _dtype(values: pd.Series, kind: Kind) -> str:
    """What the column is given back in. CSV readers turn whole numbers with gaps to floats: they were whole."""
    dtype = str(values.dtype)
    if kind == "date":
        return dtype if dtype.startswith("datetime64[") and "," not in dtype else ISO_TEXT
    if pd.api.types.is_bool_dtype(values):
        return "bool"
    if pd.api.types.is_float_dtype(values) and kind != "number":
        return "int64" if bool(values.isna().any()) and bool((values.dropna() % 1 == 0).all()) else dtype
    if pd.api.types.is_numeric_dtype(values):
        return dtype.lower() if kind != "number" else "float64" if "int" in dtype.lower() else dtype.lower()
    return "category" if isinstance(values.dtype, pd.CategoricalDtype) else "str"


def _decimals(present: pd.Series) -> int:
    """The fewest decimal places, up to 8, that keep every value."""
    values = present.to_numpy()
    for places in range(9):
        if np.allclose(np.round(values, places), values, rtol=1e-12, atol=1e-10):
            return places
    return 8
