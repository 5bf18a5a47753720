"""The canonical form of a column, what everything computes with, and the way back.

A canonical column is float64 (numbers; dates as whole days or seconds since 1970-01-01; missing is NaN) or text
(categories and booleans; missing is null); of pictures see `image_codec`. `restore` undoes `canonical` in the dtypes
that the schema names.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from shared.errors import BadInput
from shared.image_codec import restore_images
from shared.schema import MERGED, MISSING, CategoricalColumn, Column, ImageColumn, NumericColumn, Schema

Kind = Literal["number", "integer", "date", "category", "boolean"]
ISO_TEXT = "date"
"""The dtype of a date that is kept as ISO 8601 text."""
OFFSET = r"(?:Z|[+-]\d{2}(?::?\d{2})?)"
"""How ISO 8601 text says its zone: Z or +01:00."""
ZONE = rf":\d.*{OFFSET}$"
"""How a time ends that says its zone."""
UTC_TIME = "datetime64[s, UTC]"
"""The dtype of such times: one clock for all, written with a Z."""
DATE32 = "date32[day][pyarrow]"
"""The dtype of a date without a time, as Parquet has it."""
EXACT = 2.0**53
"""Whole numbers up to here are exact in float64."""
EXACT_TYPES = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}
"""What keeps whole numbers beside gaps: pandas' own way makes floats of them."""
WITH_GAPS = {str(kind): beside_gaps for kind, beside_gaps in EXACT_TYPES.items()}
AFRESH = "correct the file and run init on a new folder, to which owner.toml may be copied but for its name"
"""The remedy for what is wrong with records that a node already holds: they are never changed in place."""


def plain(values: pd.Series, name: str, *, gaps: bool = False) -> pd.Series:
    """The column in one of pandas' own types: number, boolean, text, category of text, or dates (datetime.date too).

    Raises `BadInput` naming a column of mixed types, of a type that no kind of column has (lists, bytes, durations),
    or with infinite values, which with `gaps` are missing ones.
    """
    values = _plain(values, name, gaps)
    if not pd.api.types.is_float_dtype(values):
        return values
    infinite = np.isinf(values.to_numpy(float, na_value=np.nan))
    if not infinite.any():
        return values
    if not gaps:
        raise BadInput("holds infinite values", field=name, remedy="leave those cells empty, or remove the rows")
    return values.mask(infinite)


def canonical(
    values: pd.Series, name: str, kind: Kind, unit: Literal["D", "s", "us"] = "D", *, gaps: bool = False
) -> pd.Series:
    """One column in canonical form. Raises `BadInput` naming the column; with `gaps` a cell that its kind has no place
    for is missing instead."""
    values = plain(values, name, gaps=gaps)
    if kind in ("category", "boolean"):
        return _as_text(values)
    if kind == "date":
        return _as_time(values, name, unit, gaps)
    if _is_time(values):
        raise BadInput("holds dates, not numbers", field=name, remedy='set kind = "date"')
    if pd.api.types.is_bool_dtype(values):
        values = values.astype("Int64")
    numbers = pd.to_numeric(values, errors="coerce").astype("Float64").to_numpy(float, na_value=np.nan)
    if gaps:
        numbers[~(np.abs(numbers) < (EXACT if kind == "integer" else np.inf))] = np.nan
    elif bool((np.isnan(numbers) & values.notna().to_numpy()).any()):
        raise BadInput(
            "numbers and other text are mixed",
            field=name,
            remedy=f'set kind = "category", or {AFRESH}',
        )
    if bool(np.isinf(numbers).any()):
        raise BadInput("holds infinite values", field=name, remedy="leave those cells empty, or remove the rows")
    if kind == "integer" and bool((np.abs(numbers) >= EXACT).any()):
        raise BadInput("holds whole numbers of 2^53 and more", field=name, remedy='set kind = "exclude" or "number"')
    return pd.Series(numbers, index=values.index)


def restore(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """A canonical table in the dtypes that the schema names. Raises `BadInput` for a dtype that cannot hold it."""
    return pd.DataFrame({column.name: restore_column(table[column.name], column) for column in schema.columns})


def restore_column(values: pd.Series, column: Column) -> pd.Series:
    """One canonical column in the dtype that the schema names. Raises `BadInput` for one that cannot hold it."""
    try:
        if isinstance(column, ImageColumn):
            return restore_images(values, column)
        if isinstance(column, NumericColumn):
            return _restore_number(values, column)
        return _restore_label(values, column)
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        raise BadInput(
            "cannot be given back in the type that the schema names",
            field=column.name,
            remedy="ask the owner for a new release",
        ) from None


def _plain(values: pd.Series, name: str, gaps: bool) -> pd.Series:
    if isinstance(values.dtype, pd.CategoricalDtype):
        if pd.api.types.is_string_dtype(values.cat.categories):
            return values
        values = pd.Series(np.asarray(values), index=values.index)
    if values.dtype != "object" and not isinstance(values.dtype, pd.ArrowDtype) and values.dtype.kind not in "mc":
        return values
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        raise BadInput("mixes types", field=name, remedy="give the column one type") from None
    if pa.types.is_decimal(array.type) and array.type.scale <= 0:
        array = _whole(array, gaps)
    kind = array.type
    if pa.types.is_decimal(kind):
        numbers = [np.nan if number is None else float(number) for number in array.to_pylist()]
        return pd.Series(numbers, index=values.index)
    if pa.types.is_boolean(kind):
        return values.astype("boolean")
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_null(kind)
    ):
        raise BadInput(
            f"is of type {kind}, which no kind of column has",
            field=name,
            remedy="turn it into numbers, text or dates, or leave it out of the table",
        )
    if kind in EXACT_TYPES and array.null_count:
        return array.to_pandas(types_mapper=EXACT_TYPES.get).set_axis(values.index)
    return pd.Series(array.to_pandas().to_numpy(), index=values.index).infer_objects()


def _whole(decimals: pa.Array, gaps: bool) -> pa.Array:
    """Decimals without places as whole numbers, or as text where one is too long: of two long codes floats make one.
    With `gaps` always as text, so that no single cell decides."""
    with suppress(pa.ArrowInvalid):
        if not gaps:
            return decimals.cast(pa.int64())
    return decimals.cast(pa.string())


def _as_text(values: pd.Series) -> pd.Series:
    """Labels as text: whole numbers without a decimal point, missing, as no text is, as null.

    Each by itself: what a label is called does not depend on which others a part of a table holds.
    """
    missing = values.isna()
    spelt: Callable[..., str] = str
    if pd.api.types.is_float_dtype(values):
        spelt = partial(_spelt, single=str(values.dtype).lower() in ("float16", "float32"))
    text = values.astype("object").map(spelt).astype("str")
    return text.mask(missing | (text == ""))


def _spelt(number: float, single: bool) -> str:
    """A number of single precision is 0.1, as a file of text then has it, not 0.10000000149011612."""
    if pd.notna(number) and number % 1 == 0 and abs(number) <= EXACT:
        return str(int(number))
    return str(np.float32(number) if single and pd.notna(number) else number)


def _as_time(values: pd.Series, name: str, unit: str, gaps: bool) -> pd.Series:
    """Whole units since 1970-01-01 UTC; a time without a zone is taken as it stands."""
    if pd.api.types.is_numeric_dtype(values):
        raise BadInput(
            "holds numbers, not dates", field=name, remedy='write dates as YYYY-MM-DD, or set kind = "integer"'
        )
    if gaps and not _is_time(values):  # one by one: pandas reads a column to the precision of its finest cell
        moments = {cell: _moment(cell) for cell in values.dropna().unique()}
        read = [moments.get(cell, pd.NaT) for cell in values]
        values = pd.Series(read, index=values.index, dtype="datetime64[s, UTC]")
    times = pd.to_datetime(values, errors="coerce", utc=True, format=None if _is_time(values) else "ISO8601")
    if not gaps and bool((times.isna() & values.notna()).any()):
        raise BadInput(
            "holds text that is not a date",
            field=name,
            remedy=f'set kind = "category", or write dates as YYYY-MM-DD: {AFRESH}',
        )
    whole = times.dt.tz_localize(None).to_numpy().astype(f"datetime64[{unit}]")
    return pd.Series(np.where(np.isnat(whole), np.nan, whole.astype(np.int64)), index=values.index)


def _moment(cell: object) -> pd.Timestamp:
    """A time in UTC, to the second, or no time."""
    found = pd.to_datetime(str(cell), errors="coerce", utc=True, format="ISO8601")
    return found if found is pd.NaT else found.as_unit("s")


def _is_time(values: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(values)


def _restore_number(values: pd.Series, column: NumericColumn) -> pd.Series:
    if column.kind == "number":
        return values.astype(column.dtype)
    whole = values.astype("Float64").round().astype("Int64")
    if column.kind == "integer":
        _check_range(whole, column.dtype)
        return whole.astype(WITH_GAPS.get(column.dtype, column.dtype) if column.optional else column.dtype)
    counts = whole.to_numpy("int64", na_value=np.iinfo(np.int64).min)
    times = pd.Series(counts.view(f"datetime64[{column.unit}]"), index=values.index)
    if column.dtype == ISO_TEXT:
        return times.dt.strftime("%Y-%m-%d" if column.unit == "D" else "%Y-%m-%dT%H:%M:%S").astype("str")
    zoned = column.dtype.startswith("datetime64[") and "," in column.dtype
    return (times.dt.tz_localize("UTC") if zoned else times).astype(column.dtype)


def _check_range(whole: pd.Series, dtype: str) -> None:
    """Raises `OverflowError` where the integer type would wrap around: pandas says nothing."""
    if "int" in dtype and whole.notna().any():
        kept = np.iinfo(dtype)
        if whole.min() < kept.min or whole.max() > kept.max:
            raise OverflowError


def _restore_label(values: pd.Series, column: CategoricalColumn) -> pd.Series:
    if MERGED in column.categories:
        return values.mask(values == MISSING)  # merged values have no value of the original type
    optional = column.optional or MISSING in column.categories
    values = values.mask(values == MISSING)
    if "bool" in column.dtype:
        found = values.map({"True": True, "False": False}).astype("boolean")
        return found if optional else found.astype("bool")
    if "int" in column.dtype:
        whole = values.astype("UInt64" if column.dtype.startswith("uint") else "Int64")
        _check_range(whole, column.dtype)
        return whole.astype(WITH_GAPS[column.dtype] if optional else column.dtype)
    if "float" in column.dtype:
        return values.astype("Float64").astype(column.dtype)
    if column.dtype == "category":  # the same codes in every block of a stream
        labels = [label for label in column.categories if label != MISSING]
        return pd.Series(pd.Categorical(values, labels), index=values.index)
    return values
