"""Tables as people keep them (CSV, Parquet), their canonical form, and streaming writers.

A canonical column is float64 (numbers; dates as whole days or seconds since 1970-01-01; missing is NaN) or text
(categories and booleans; missing is null); of pictures see `image_codec`. `restore` undoes `canonical` in the dtypes
that the schema names.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as parquet

from shared.errors import BadInput, Unreachable
from shared.folder import PUBLIC
from shared.image_codec import restore_images
from shared.limits import LIMITS
from shared.schema import MERGED, MISSING, CategoricalColumn, Column, ImageColumn, NumericColumn, Schema

Kind = Literal["number", "integer", "date", "category", "boolean"]
SUFFIXES = (".csv", ".parquet")
ISO_TEXT = "date"
"""The dtype of a date that is kept as ISO 8601 text."""
DATE32 = "date32[day][pyarrow]"
"""The dtype of a date without a time, as Parquet has it."""
EXACT = 2.0**53
"""Whole numbers up to here are exact in float64."""
EXACT_TYPES = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}
"""What keeps whole numbers beside gaps: pandas' own way makes floats of them."""
LARGEST = 1e37
"""Of numbers: what models compute with in half the digits still holds them."""
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


def read_table(path: Path, *, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV (UTF-8, header row; an empty cell, NA, NaN, null and None mean missing) or Parquet file.

    Columns named in `text` come from a CSV as they are written: codes keep their zeros, only an empty cell is missing.
    Raises `Unreachable` when it cannot be read and `BadInput`, with the line or column, when it is no good table.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput("not a .csv or .parquet file", field=str(path), remedy="convert it to CSV or Parquet")
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise IsADirectoryError
        with path.open("rb"):
            pass  # says now, and in our words, that it may not be read
    except OSError as error:
        raise Unreachable("cannot be read", field=str(path), remedy="check the path and its permissions") from error
    if size == 0:
        raise BadInput("the file is empty", field=str(path), remedy="give a file with a header and rows")
    if size > LIMITS.table_bytes:
        raise BadInput("the file is larger than the limit", field=str(path), remedy="give a sample of it")
    table = _read_csv(path, text) if path.suffix.lower() == ".csv" else _read_parquet(path)
    if table.columns.empty or len(table) == 0:
        raise BadInput("the table has no rows", field=str(path), remedy="give a file with a header and rows")
    return table


def check_names(names: list[str]) -> None:
    """Raises `BadInput` for repeated, empty, overlong or non-text column names, or too many of them."""
    for position, name in enumerate(names, 1):
        if not isinstance(name, str):
            raise BadInput("the column name is not text", field=f"column {position}", remedy="rename it")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise BadInput("the column name repeats", field=repeated[0], remedy="give each column its own name")
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise BadInput("the column has no name", field=f"column {position}", remedy="name it in the header")
        if len(name) > LIMITS.name_characters:
            raise BadInput("the column name is too long", field=f"column {position}", remedy="shorten it")
        if UNNAMED_INDEX.fullmatch(name):
            raise BadInput("the column is named as a row index is", field=f"column {position}", remedy="rename it")
    if len(names) > LIMITS.columns:
        raise BadInput("more columns than the limit", field="table", remedy="leave columns out")


def plain(values: pd.Series, name: str, *, gaps: bool = False) -> pd.Series:
    """The column in one of pandas' own types: number, boolean, text, category of text, or dates (datetime.date too).

    Raises `BadInput` naming a column of mixed types, of a type that no kind of column has (lists, bytes, durations),
    or with infinite values, which with `gaps` are missing ones.
    """
    values = _plain(values, name)
    if not pd.api.types.is_float_dtype(values):
        return values
    infinite = np.isinf(values.to_numpy(float, na_value=np.nan))
    if not infinite.any():
        return values
    if not gaps:
        raise BadInput("holds infinite values", field=name, remedy="leave those cells empty, or remove the rows")
    return values.mask(infinite)


def canonical(
    values: pd.Series, name: str, kind: Kind, unit: Literal["D", "s"] = "D", *, gaps: bool = False
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
            remedy='clean the column, leave those cells empty, or set kind = "category"',
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


class TableWriter:
    """Streams tables of one shape to a CSV or Parquet file that appears only when all of it is written.

    Parquet carries `metadata` as key-value metadata; memory stays at one table. Raises `Unreachable`.
    """

    def __init__(self, path: Path, metadata: dict[str, str]) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise BadInput("not a .csv or .parquet file", field=str(path), remedy="choose one of those suffixes")
        self._path = path
        self._part: Path | None = None
        self._metadata = metadata
        self._writer: parquet.ParquetWriter | pyarrow.csv.CSVWriter | None = None

    def write(self, table: pd.DataFrame) -> None:
        batch = pa.Table.from_pandas(table, preserve_index=False)
        try:
            if self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # a name of its own: two runs to one path do not write into each other
                handle, part = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
                os.close(handle)
                self._part = Path(part)
                self._part.chmod(PUBLIC)
                self._writer = self._open(self._part, batch.schema)
            self._writer.write_table(batch.cast(self._schema))
        except OSError as error:
            raise Unreachable(
                "cannot be written", field=str(self._path), remedy="check the folder, its permissions and free space"
            ) from error

    def _open(self, part: Path, schema: pa.Schema) -> parquet.ParquetWriter | pyarrow.csv.CSVWriter:
        self._schema = schema.with_metadata({**(schema.metadata or {}), **self._metadata})
        if self._path.suffix.lower() == ".csv":
            return pyarrow.csv.CSVWriter(part, self._schema)
        return parquet.ParquetWriter(part, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
            if self._part is not None and error is None:
                self._part.replace(self._path)
        except OSError as failure:
            raise Unreachable(
                "cannot be written", field=str(self._path), remedy="check the folder, its permissions and free space"
            ) from failure
        finally:
            if self._part is not None:
                with suppress(OSError):
                    self._part.unlink(missing_ok=True)


def _read_csv(path: Path, text: Collection[str]) -> pd.DataFrame:
    """Two passes: the shape with the csv module, which can say which line is wrong, then the values."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True, skipinitialspace=True)
            header = next(rows, [])
            if len(header) == 1 and re.search(r"[;\t|]", header[0]):
                raise BadInput(
                    "cells are not separated by commas", field=str(path), remedy="save it with commas between cells"
                )
            check_names(header)
            for row in rows:
                if row and len(row) != len(header):
                    raise BadInput(
                        f"line {rows.line_num} has {len(row)} cells and the header {len(header)}",
                        field=str(path),
                        remedy="mend the line, or quote the cell that holds a comma",
                    )
        values = partial(pd.read_csv, path, encoding="utf-8-sig", skipinitialspace=True, low_memory=False)
        table: pd.DataFrame = values()
        # long numbers beside gaps were rounded: as text they stay what they are
        if rounded := [name for name in header if name not in text and _beyond_exact(table[name])]:
            table[rounded] = values(usecols=rounded, dtype="str")
        if verbatim := [name for name in header if name in text]:
            table[verbatim] = values(usecols=verbatim, dtype="str", keep_default_na=False, na_values=[""])
        return table
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", field=str(path), remedy="save it as UTF-8") from None
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise BadInput("cannot be read as CSV", field=str(path), remedy="check quotes and separators") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    """The columns by their Parquet types alone; what pandas noted beside them may name types we do not take."""
    try:
        names = [name for name in parquet.read_schema(path).names if not UNNAMED_INDEX.fullmatch(name)]
        check_names(names)
        found = parquet.read_table(path, columns=names)
        table = found.to_pandas(ignore_metadata=True)
        for name, column in zip(found.column_names, found.columns, strict=True):
            if column.type in EXACT_TYPES and column.null_count:
                table[name] = column.to_pandas(types_mapper=EXACT_TYPES.get)
        return table
    except (pa.ArrowException, ValueError, OSError):
        raise BadInput("cannot be read as Parquet", field=str(path), remedy="write the file again") from None


def _plain(values: pd.Series, name: str) -> pd.Series:
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


def _beyond_exact(values: pd.Series) -> bool:
    """Whether these are whole numbers in floats, too long to be exact."""
    if not pd.api.types.is_float_dtype(values):
        return False
    present = values.dropna()
    return bool((present % 1 == 0).all()) and bool((present.abs() >= EXACT).any())


def _as_text(values: pd.Series) -> pd.Series:
    """Labels as text: whole numbers without a decimal point, missing, as no text is, as null.

    Each by itself: what a label is called does not depend on which others a part of a table holds.
    """
    missing = values.isna()
    spelt = _spelt if pd.api.types.is_float_dtype(values) else str
    text = values.astype("object").map(spelt).astype("str")
    return text.mask(missing | (text == ""))


def _spelt(number: float) -> str:
    return str(int(number)) if pd.notna(number) and number % 1 == 0 and abs(number) <= EXACT else str(number)


def _as_time(values: pd.Series, name: str, unit: str, gaps: bool) -> pd.Series:
    """Whole units since 1970-01-01 UTC; a time without a zone is taken as it stands."""
    if pd.api.types.is_numeric_dtype(values):
        raise BadInput(
            "holds numbers, not dates", field=name, remedy='write dates as YYYY-MM-DD, or set kind = "integer"'
        )
    times = pd.to_datetime(values, errors="coerce", utc=True, format=None if _is_time(values) else "ISO8601")
    if not gaps and bool((times.isna() & values.notna()).any()):
        raise BadInput(
            "holds text that is not a date",
            field=name,
            remedy='write dates as YYYY-MM-DD, leave the cell empty, or set kind = "category"',
        )
    whole = times.dt.tz_localize(None).to_numpy().astype(f"datetime64[{unit}]")
    return pd.Series(np.where(np.isnat(whole), np.nan, whole.astype(np.int64)), index=values.index)


def _is_time(values: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(values)


def _restore_number(values: pd.Series, column: NumericColumn) -> pd.Series:
    if column.kind == "number":
        return values.round(column.decimals).astype(column.dtype)
    whole = values.astype("Float64").round().astype("Int64")
    if column.kind == "integer":
        _check_range(whole, column.dtype)
        return whole if column.optional and "int" in column.dtype else whole.astype(column.dtype)
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
        return whole if optional else whole.astype(column.dtype)
    if "float" in column.dtype:
        return values.astype("Float64").astype(column.dtype)
    if column.dtype == "category":  # the same codes in every block of a stream
        labels = [label for label in column.categories if label != MISSING]
        return pd.Series(pd.Categorical(values, labels), index=values.index)
    return values
