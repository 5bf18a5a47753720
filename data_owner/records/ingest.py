"""Ingestion: from a table and `owner.toml` to canonical records, or a precise reason why not."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_owner.records import column_type
from data_owner.records.images import image_column
from data_owner.settings import ColumnSettings, OwnerSettings, Policy
from shared.canonical import AFRESH, Kind, canonical, plain
from shared.errors import BadInput, PolicyRefusal, together
from shared.image_codec import canonical_images
from shared.limits import LIMITS
from shared.schema import LARGEST, MERGED, MISSING, ColumnRole, ImageColumn
from shared.table import check_names

LEAST_ROWS = 100
SMALLEST = 1e-12
"""Between this and `LARGEST` lies the largest number of a column: its decimals are then few enough."""
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
BOOLEAN = {"True", "False"}


@dataclass(frozen=True)
class ColumnFacts:
    """One column as it will be modelled. `dtype` is what it is given back in."""

    name: str
    kind: Kind | Literal["image"]
    dtype: str
    role: ColumnRole
    decimals: int = 0
    unit: Literal["D", "s"] = "D"
    declared_categories: tuple[str, ...] | None = None
    declared_bounds: tuple[float, float] | None = None
    image: ImageColumn | None = None


@dataclass(frozen=True)
class MergedGroups:
    """How many sensitive groups were too small, their share of the records, and the values that they took."""

    groups: int
    share: float
    into: tuple[str, ...]


@dataclass(frozen=True)
class Records:
    """A canonical table, what its columns are, the positive class of the target, and what was merged, if anything."""

    frame: pd.DataFrame
    columns: tuple[ColumnFacts, ...]
    positive: str
    merged: MergedGroups | None = None

    @property
    def sensitive(self) -> list[str]:
        return [column.name for column in self.columns if column.role is ColumnRole.SENSITIVE]


def ingest(table: pd.DataFrame, settings: OwnerSettings) -> Records:
    """Canonical records. Raises `BadInput` or `PolicyRefusal` naming the column and the remedy."""
    return with_groups(read(table, settings), settings.policy)


def with_groups(found: Records, policy: Policy, counted: NDArray[np.int64] | None = None) -> Records:
    """Records whose joint groups are as large as the policy asks, counting rows `counted`, all unless given.

    Small groups are merged if the policy says so: with each other or, if they are too few together, into the next
    smallest, which keeps its name. Raises `PolicyRefusal` if not, `BadInput` for too few or too many.
    """
    frame, merged = _with_groups(found.frame, found.sensitive, policy, counted)
    return Records(frame, tuple(_as_declared(fact, frame[fact.name]) for fact in found.columns), found.positive, merged)


def read(table: pd.DataFrame, settings: OwnerSettings, *, as_declared: bool = False) -> Records:
    """Canonical records with every group as it is; `with_groups` goes on to merge or refuse the small ones.

    With `as_declared` no single record decides what is refused, in which type a column comes back or how another
    record is read, for that would tell of it: a number outside its column's bounds counts as the nearest inside, a
    cell that its kind has no place for and a category that is not declared as missing, a date is kept to the day, and
    a row without a declared class is left out. The frame keeps the table's index.
    """
    check_names(list(table.columns))
    if len(table) < LEAST_ROWS and settings.privacy is None:  # with a budget nobody is behind microdata
        raise BadInput(f"fewer than {LEAST_ROWS} rows", field="table", remedy="add records")
    unknown = [column for column in table.columns if column not in settings.columns]
    if unknown:
        raise BadInput(
            "owner.toml does not know this column", field=", ".join(unknown), remedy="add or exclude it there"
        )
    absent = [column for column in settings.columns if column not in table.columns]
    if absent:
        raise BadInput("the table lacks this column", field=", ".join(absent), remedy="remove it from owner.toml")
    undecided = {column: entry.reason for column, entry in settings.columns.items() if entry.kind == "undecided"}
    if undecided:
        raise PolicyRefusal(
            f"needs a decision ({'; '.join(f'{column}: {reason}' for column, reason in undecided.items())})",
            field=", ".join(undecided),
            remedy=f'set each kind in owner.toml, "exclude" to leave the column out, or {AFRESH}',
        )
    facts, columns, problems = [], {}, []
    for name, entry in settings.columns.items():
        if entry.kind == "exclude":
            continue
        try:
            fact, values = _column(table[name], name, entry, as_declared, settings.policy.minimum_count)
        except BadInput as problem:
            problems.append(problem)
            continue
        facts.append(fact)
        columns[name] = values
    if problems:
        raise together(problems)
    frame = pd.DataFrame(columns)
    (target,) = (fact.name for fact in facts if fact.role is ColumnRole.TARGET)
    if as_declared:
        frame = frame[frame[target].notna()]
    else:
        check_target(frame[target], target)
    classes = settings.columns[target].categories if as_declared else None
    if classes is not None and not 2 <= len({*classes} - {MISSING}) <= LIMITS.classes:
        raise BadInput(
            f"the target must have 2 to {LIMITS.classes} classes", field=target, remedy="correct its categories"
        )
    if settings.positive not in set(frame[target] if classes is None else classes):
        raise BadInput("not a class of the target", field="positive", remedy="correct it in owner.toml")
    return Records(frame, tuple(facts), settings.positive)


def check_target(values: pd.Series, name: str) -> None:
    """Raises `BadInput` unless the target has two classes or more, not too many, and no gap."""
    if bool(values.isna().any()):
        raise BadInput("the target has missing values", field=name, remedy="remove those rows")
    classes = values.nunique()
    if classes < 2:
        raise BadInput("the target is constant", field=name, remedy="choose a column with two classes")
    if classes > LIMITS.classes:
        raise BadInput(
            f"the target has more than {LIMITS.classes} classes",
            field=name,
            remedy="recode it to fewer, or choose another column",
        )
    if any(len(label) > LIMITS.name_characters for label in values.unique()):
        raise BadInput("holds long text", field=name, remedy="give its classes short names")


def _column(
    values: pd.Series, name: str, entry: ColumnSettings, as_declared: bool, minimum_count: int
) -> tuple[ColumnFacts, pd.Series]:
    if entry.kind == "image" and entry.shape is not None:
        column = image_column(name, entry.shape)
        fact = ColumnFacts(name=name, kind="image", dtype="image", role=ColumnRole.FEATURE, image=column)
        return fact, canonical_images(values, column)
    values = plain(values, name, gaps=as_declared)
    if entry.kind in ("category", "boolean"):
        return _labels(values, name, entry, as_declared)
    unit: Literal["D", "s"] = "D"
    if entry.kind == "date":
        timed = 0 if as_declared else int((canonical(values, name, "date", "s").dropna() % 86_400 != 0).sum())
        unit = "D" if timed < minimum_count else "s"
    kind: Literal["number", "integer", "date"] = (
        "number" if entry.kind == "number" else "integer" if entry.kind == "integer" else "date"
    )
    numbers = canonical(values, name, kind, unit, gaps=as_declared)
    bounds = entry.limits
    if bounds is not None and max(-bounds[0], bounds[1]) > LARGEST:
        raise BadInput(f"its bounds are not within {-LARGEST:g} and {LARGEST:g}", field=name, remedy="narrow them")
    if bounds is not None and unit == "s":
        bounds = bounds[0] * 86_400.0, (bounds[1] + 1.0) * 86_400.0 - 1.0  # to the end of the last day
    decimals = 0
    if as_declared:
        numbers = numbers if bounds is None else numbers.clip(*bounds)
    else:
        present = numbers.dropna()
        _check_numbers(present, name, kind, bounds if bounds is None else _as_held(bounds, values))
        numbers = numbers if bounds is None else numbers.clip(*bounds)
        if kind == "number":
            precision = np.finfo("f4" if values.dtype == "float32" else "f8")
            decimals = _decimals_of(present, precision, name, entry, minimum_count)
            numbers = _rounded(numbers, decimals, precision, minimum_count)
    fact = ColumnFacts(
        name=name,
        kind=kind,
        dtype=column_type.of_numbers(values, name, kind, unit, bounds, as_declared),
        role=ColumnRole.FEATURE,
        decimals=decimals,
        unit=unit,
        declared_bounds=bounds,
    )
    return fact, numbers


def _as_held(bounds: tuple[float, float], values: pd.Series) -> tuple[float, float]:
    """Bounds that a value at their ends is within though single precision has moved it."""
    if values.dtype != "float32":
        return bounds
    low, high = (float(np.float32(bound)) for bound in bounds)
    return min(bounds[0], low), max(bounds[1], high)


def _check_numbers(present: pd.Series, name: str, kind: Kind, bounds: tuple[float, float] | None) -> None:
    """Raises `BadInput` unless the numbers that are there vary, and are as the column's settings say."""
    _check_any(present, name)
    if present.nunique() < 2:
        raise BadInput("the column is constant", field=name, remedy='set kind = "exclude" in owner.toml')
    if kind == "integer" and bool((present % 1 != 0).any()):
        raise BadInput("holds numbers that are not whole", field=name, remedy='set kind = "number"')
    if bounds is not None and not bool(present.between(*bounds).all()):
        raise BadInput("holds values outside its bounds", field=name, remedy="widen them in owner.toml")


def _check_any(present: pd.Series, name: str) -> None:
    if present.empty:
        raise BadInput("every value is missing", field=name, remedy='set kind = "exclude" in owner.toml')


def _labels(values: pd.Series, name: str, entry: ColumnSettings, as_declared: bool) -> tuple[ColumnFacts, pd.Series]:
    kind: Literal["category", "boolean"] = "boolean" if entry.kind == "boolean" else "category"
    labels = canonical(values, name, kind, gaps=as_declared)
    declared = entry.categories or ()
    if entry.categories is not None:
        meant = {label: declared_as(label, declared) for label in labels.dropna().unique()}
        labels = labels.map(meant if as_declared else {label: meant[label] or label for label in meant}).astype("str")
    if not as_declared:
        _check_labels(labels, name, entry)
    found = labels.dropna().unique()
    if len(found) > LIMITS.categories:
        raise BadInput(
            f"more than {LIMITS.categories} categories",
            field=name,
            remedy='group them, or set kind = "exclude" in owner.toml',
        )
    if kind == "boolean" and len(found) > 2:
        raise BadInput("a boolean with more than two values", field=name, remedy='set kind = "category"')
    if any(len(label) > LIMITS.name_characters for label in found):
        raise BadInput("holds long text", field=name, remedy='set kind = "exclude" in owner.toml')
    if len(set(declared)) < len(declared):
        raise BadInput("declares a category twice", field=name, remedy="remove one from owner.toml")
    if len(declared) not in (0, 2) and kind == "boolean":
        raise BadInput("must declare two categories", field=name, remedy="correct them in owner.toml")
    fact = ColumnFacts(
        name=name,
        kind=kind,
        dtype=column_type.of_labels(values, name, kind, declared, as_declared),
        role=ColumnRole(entry.role),
        declared_categories=entry.categories,
    )
    return fact, labels.fillna(MISSING) if entry.role == "sensitive" else labels


def declared_as(label: str, declared: tuple[str, ...]) -> str | None:
    """The declared category that a cell means, by itself: how a whole column is written is not asked. "TRUE" means a
    declared "True", and "01" or "1.0" a declared "1", unless it is declared itself; None for no such category."""
    if label in declared:
        return label
    if label.capitalize() in BOOLEAN and {*declared} == BOOLEAN:
        return label.capitalize()
    with suppress(ValueError):
        number = float(label)
        alike = [category for category in declared if NUMBER.fullmatch(category) and float(category) == number]
        return alike[0] if len(alike) == 1 else None
    return None


def _check_labels(labels: pd.Series, name: str, entry: ColumnSettings) -> None:
    """Raises `BadInput` unless a feature's labels vary, and all labels are among those declared, if any."""
    present = labels.dropna()
    _check_any(present, name)
    found = set(present)
    if entry.role != "sensitive" and found & {MISSING, MERGED}:
        raise BadInput(
            f"holds the text {MISSING} or {MERGED}, which stands for something here",
            field=name,
            remedy="leave those cells empty, or rename that category",
        )
    if entry.role == "feature" and len(found) < 2 and len(present) == len(labels):
        raise BadInput("the column is constant", field=name, remedy='set kind = "exclude" in owner.toml')
    if entry.categories is None:
        return
    if entry.role == "target" and not set(entry.categories) <= found:
        raise BadInput("declares a class that no record has", field=name, remedy="remove it from owner.toml")
    if not found <= {*entry.categories, MISSING}:
        raise BadInput(
            "holds a category that owner.toml does not declare",
            field=name,
            remedy=f"declare it there, or {AFRESH}",
        )


def _as_declared(fact: ColumnFacts, labels: pd.Series) -> ColumnFacts:
    """Declared categories, and the two that ingestion itself may have added."""
    if fact.declared_categories is None:
        return fact
    added = [
        label for label in (MISSING, MERGED) if label not in fact.declared_categories and bool((labels == label).any())
    ]
    return replace(fact, declared_categories=(*fact.declared_categories, *added))


def _with_groups(
    frame: pd.DataFrame, sensitive: list[str], policy: Policy, counted: NDArray[np.int64] | None
) -> tuple[pd.DataFrame, MergedGroups | None]:
    field, found = ", ".join(sensitive), None
    group = frame.groupby(sensitive).ngroup()
    of = group if counted is None else group.iloc[counted]
    sizes = pd.Series(np.bincount(of, minlength=group.max() + 1)).sort_values(kind="stable")
    few = int((sizes < policy.minimum_count).sum())
    if few:
        if policy.small_groups == "refuse":
            raise PolicyRefusal(
                f"a sensitive group has fewer than {policy.minimum_count} records to train on",
                field=field,
                remedy='use --merge-small-groups at init, set small_groups = "merge" in owner.toml, or drop the rows',
            )
        small, into = group.isin(sizes.index[:few]), (MERGED,) * len(sensitive)
        if sizes.iloc[:few].sum() < policy.minimum_count and few < len(sizes):
            into = tuple(frame.loc[group == sizes.index[few], sensitive].iloc[0])
        found = MergedGroups(few, float(small.mean()), into)
        frame = frame.assign(
            **{name: frame[name].mask(small, value) for name, value in zip(sensitive, into, strict=True)}
        )
    groups = len(frame.drop_duplicates(sensitive))
    if groups < 2:
        raise BadInput("there is only one group", field=field, remedy="choose a column with two or more groups")
    if groups > LIMITS.groups:
        raise BadInput(
            f"there are more than {LIMITS.groups} groups",
            field=field,
            remedy="name fewer sensitive columns, or give them fewer categories",
        )
    return frame, found


def _decimals_of(
    present: pd.Series, precision: np.finfo[np.floating], name: str, entry: ColumnSettings, minimum_count: int
) -> int:
    """Those declared, or the fewest that keep all values to their precision but fewer than the minimum count; else
    eight digits of the largest value."""
    largest = float(present.abs().max())
    if largest > LARGEST or (entry.decimals is None and largest < SMALLEST):
        raise BadInput(
            f"its largest number is not within {SMALLEST:g} and {LARGEST:g}",
            field=name,
            remedy=f"use another unit: {AFRESH}",
        )
    if entry.decimals is not None:
        return entry.decimals
    most = min(LIMITS.decimals, 8 + max(0, -int(np.floor(np.log10(largest)))))
    enough = (places for places in range(most) if (~_is_kept(present, places, precision)).sum() < minimum_count)
    return next(enough, most)


def _rounded(numbers: pd.Series, decimals: int, precision: np.finfo[np.floating], minimum_count: int) -> pd.Series:
    """Numbers as the quantile table will have them: single precision and arithmetic leave what many share beside the
    point that is theirs. Those with more decimals stay as they are if they are too few for a point."""
    odd = numbers.notna() & ~_is_kept(numbers, decimals, precision)
    rounded = numbers.round(decimals)
    return rounded.mask(odd, numbers) if odd.sum() < minimum_count else rounded


def _is_kept(values: pd.Series, places: int, precision: np.finfo[np.floating]) -> NDArray[np.bool_]:
    """Whether so many decimal places keep each value to its precision."""
    numbers = values.to_numpy()
    return np.isclose(np.round(numbers, places), numbers, rtol=4 * float(precision.eps), atol=0.0)
