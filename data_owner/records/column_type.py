"""In which type a column is given back: its own, or one that holds all that is declared of it.

With `as_declared` no single cell decides it: one gap makes floats of whole numbers, one odd cell text of a CSV's.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Literal

import pandas as pd

from shared.canonical import DATE32, ISO_TEXT, UTC_TIME, ZONE, canonical, restore_column
from shared.errors import BadInput
from shared.schema import DTYPES, MISSING, CategoricalColumn, NumericColumn, Quantiles

BY_LABELS = ("bool", "int64", "str")
"""Labels that are declared are given back in the first of these that holds them all."""


def of_labels(
    values: pd.Series, name: str, kind: Literal["category", "boolean"], declared: tuple[str, ...], as_declared: bool
) -> str:
    """The type of plain `values`, or the one that declared labels need; with `as_declared` they alone decide."""
    own = _of_category(values)
    if not declared or own == "category":
        return own
    types = BY_LABELS if as_declared else (own, *BY_LABELS)
    return next((dtype for dtype in types if _holds_labels(dtype, name, kind, declared)), "str")


def of_numbers(
    values: pd.Series,
    name: str,
    kind: Literal["number", "integer", "date"],
    unit: Literal["D", "s"],
    bounds: tuple[float, float] | None,
    as_declared: bool,
) -> str:
    """The type of plain `values`, or a wider one for whole numbers if declared bounds go beyond it.

    Raises `BadInput` for bounds that it cannot hold.
    """
    if kind == "date":
        dtype = _of_date(values, as_declared)
    elif kind == "number":
        dtype = _float_type(values) if pd.api.types.is_float_dtype(values) else "float64"
    else:
        dtype = "int64" if as_declared else _of_integer(values)
    if bounds is None or _holds_bounds(dtype, name, kind, unit, bounds):
        return dtype
    if kind == "integer" and _holds_bounds("int64", name, kind, unit, bounds):
        return "int64"
    raise BadInput(
        "declares bounds that its type cannot hold",
        field=name,
        remedy="narrow its bounds in owner.toml, or make a new node from a file where the column has a wider type",
    )


def _of_category(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values):
        return "bool"
    if pd.api.types.is_numeric_dtype(values):
        return _whole_or_float(values)
    return "category" if isinstance(values.dtype, pd.CategoricalDtype) else "str"


def _of_integer(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "int64"
    return _whole_or_float(values)


def _whole_or_float(values: pd.Series) -> str:
    """CSV readers turn whole numbers with gaps to floats: that they were whole is asked of the values."""
    if not pd.api.types.is_float_dtype(values):
        return str(values.dtype).lower()
    whole = bool(values.isna().any()) and bool((values.dropna() % 1 == 0).all())
    return "int64" if whole else _float_type(values)


def _float_type(values: pd.Series) -> str:
    dtype = str(values.dtype).lower()
    return "float32" if dtype == "float16" else dtype


def _of_date(values: pd.Series, as_declared: bool) -> str:
    if pd.api.types.is_datetime64_any_dtype(values):
        dtype = str(values.dtype)
        return dtype if re.fullmatch(DTYPES, dtype) else UTC_TIME  # a zone may have no name, as dateutil's
    if pd.api.types.infer_dtype(values, skipna=True) in ("date", "empty"):  # text has a type of its own
        return DATE32
    zoned = not as_declared and bool(values.astype("str").str.contains(ZONE).any())
    return UTC_TIME if zoned else ISO_TEXT


def _holds_labels(dtype: str, name: str, kind: Literal["category", "boolean"], declared: tuple[str, ...]) -> bool:
    """Whether each label comes back as itself, but for the one that stands for missing."""
    labels = pd.Series([label for label in declared if label != MISSING], dtype="str")
    column = CategoricalColumn(name=name, kind=kind, dtype=dtype, optional=True, categories=declared)
    with suppress(BadInput):
        return canonical(restore_column(labels, column), name, kind).tolist() == labels.tolist()
    return False


def _holds_bounds(
    dtype: str,
    name: str,
    kind: Literal["number", "integer", "date"],
    unit: Literal["D", "s"],
    bounds: tuple[float, float],
) -> bool:
    """Whether both ends come back at all: single precision moves them a little."""
    column = NumericColumn(
        name=name,
        kind=kind,
        dtype=dtype,
        optional=True,
        quantiles=Quantiles(ranks=(0.0, 1.0), values=bounds),
        unit=unit,
    )
    with suppress(BadInput):
        return bool(canonical(restore_column(pd.Series(bounds), column), name, kind, unit).notna().all())
    return False
