"""Tables as people keep them (CSV, Parquet), their canonical form, and streaming writers.

A canonical column is float64 (numbers; dates as whole days or seconds since 1970-01-01; missing is NaN) or text
(categories and booleans; missing is null). `restore` undoes `canonical` in the dtypes the schema names.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as parquet

from shared.errors import BadInput, Unreachable
from shared.limits import LIMITS
from shared.schema import MERGED, MISSING, CategoricalColumn, NumericColumn, Schema

Kind = Literal["number", "integer", "date", "category", "boolean"]
SUFFIXES = (".csv", ".parquet")
ISO_TEXT = "date"
"""The dtype of a date that is kept as ISO 8601 text."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV (UTF-8, header row, empty means missing) or Parquet file.

    Raises `Unreachable` when it cannot be read and `BadInput`, with the line or column, when it is no good table.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput("not a .csv or .parquet file", field=str(path), remedy="convert it to CSV or Parquet")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Unreachable("cannot be read", field=str(path), remedy="check the path") from error
    if size == 0:
        raise BadInput("the file is empty", field=str(path), remedy="give a file with a header and rows")
    if size > LIMITS.table_bytes:
        raise BadInput("the file is larger than the limit", field=str(path), remedy="give a sample of it")
    table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    if table.columns.empty or len(table) == 0:
        raise BadInput("the table has no rows", field=str(path), remedy="give a file with a header and rows")
    check_names([str(name) for name in table.columns])
    table.columns = pd.Index([str(name) for name in table.columns])
    return table


def check_names(names: list[str]) -> None:
    """Raises `BadInput` for repeated, empty or overlong column names, or too many of them."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise BadInput("the column name repeats", field=repeated[0], remedy="give each column its own name")
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise BadInput("the column has no name", field=f"column {position}", remedy="name it in the header")
        if len(name) > LIMITS.name_characters:
            raise BadInput("the column name is too long", field=f"column {position}", remedy="shorten it")
    if len(names) > LIMITS.columns:
        raise BadInput("more columns than the limit", field="table", remedy="leave columns out")


def canonical(values: pd.Series, name: str, kind: Kind, unit: Literal["D", "s"] = "D") -> pd.Series:
    """One column in canonical form. Raises `BadInput` naming the column."""
    if kind in ("category", "boolean"):
        return _as_text(values)
    if kind == "date":
        return _as_time(values, name, unit)
    if pd.api.types.is_bool_dtype(values):
        values = values.astype("Int64")
    numbers = pd.to_numeric(values, errors="coerce").astype("Float64").to_numpy(float, na_value=np.nan)
    if bool((np.isnan(numbers) & values.notna().to_numpy()).any()):
        raise BadInput(
            "numbers and other text are mixed",
            field=name,
            remedy='clean the column, leave those cells empty, or set kind = "category"',
        )
    if bool(np.isinf(numbers).any()):
        raise BadInput("holds infinite values", field=name, remedy="leave those cells empty, or remove the rows")
    return pd.Series(numbers, index=values.index)


def restore(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """A canonical table in the dtypes that the schema names."""
    columns: dict[str, pd.Series] = {}
    for column in schema.columns:
        values = table[column.name]
        if isinstance(column, NumericColumn):
            columns[column.name] = _restore_number(values, column)
        else:
            columns[column.name] = _restore_label(values, column)
    return pd.DataFrame(columns)


class TableWriter:
    """Streams tables of one shape to a CSV or Parquet file that appears only when all of it is written.

    Parquet carries `metadata` as key-value metadata; memory stays at one table. Raises `Unreachable`.
    """

    def __init__(self, path: Path, metadata: dict[str, str]) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise BadInput("not a .csv or .parquet file", field=str(path), remedy="choose one of those suffixes")
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._metadata = metadata
        self._writer: parquet.ParquetWriter | pyarrow.csv.CSVWriter | None = None

    def write(self, table: pd.DataFrame) -> None:
        batch = pa.Table.from_pandas(table, preserve_index=False)
        try:
            if self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = self._open(batch.schema)
            self._writer.write_table(batch.cast(self._schema))
        except OSError as error:
            raise Unreachable("cannot be written", field=str(self._path), remedy="free space") from error

    def _open(self, schema: pa.Schema) -> parquet.ParquetWriter | pyarrow.csv.CSVWriter:
        self._schema = schema.with_metadata({**(schema.metadata or {}), **self._metadata})
        if self._path.suffix.lower() == ".csv":
            return pyarrow.csv.CSVWriter(self._part, self._schema)
        return parquet.ParquetWriter(self._part, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if error is None and self._writer is not None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


def _read_csv(path: Path) -> pd.DataFrame:
    """Two passes: the shape with the csv module, which can say which line is wrong, then the values."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True, skipinitialspace=True)
            header = next(rows, [])
            check_names(header)
            for row in rows:
                if row and len(row) != len(header):
                    raise BadInput(
                        f"line {rows.line_num} has {len(row)} cells and the header {len(header)}",
                        field=str(path),
                        remedy="mend the line, or quote the cell that holds a comma",
                    )
        return pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True, low_memory=False)
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", field=str(path), remedy="save it as UTF-8") from None
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise BadInput("cannot be read as CSV", field=str(path), remedy="check quotes and separators") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return parquet.read_table(path).to_pandas()
    except (pa.ArrowException, ValueError, OSError):
        raise BadInput("cannot be read as Parquet", field=str(path), remedy="write the file again") from None


def _as_text(values: pd.Series) -> pd.Series:
    """Labels as text: whole numbers without a decimal point, missing as null."""
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    missing = values.isna()
    return values.astype("object").map(str).astype("str").mask(missing)


def _as_time(values: pd.Series, name: str, unit: str) -> pd.Series:
    times = pd.to_datetime(values, errors="coerce", format=None if _is_time(values) else "ISO8601")
    if bool((times.isna() & values.notna()).any()):
        raise BadInput(
            "holds text that is not a date",
            field=name,
            remedy='write dates as YYYY-MM-DD, leave the cell empty, or set kind = "category"',
        )
    counted = times.dt.tz_localize(None) if times.dt.tz is not None else times
    whole = counted.to_numpy().astype(f"datetime64[{unit}]")
    return pd.Series(np.where(np.isnat(whole), np.nan, whole.astype(np.int64)), index=values.index)


def _is_time(values: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(values)


def _restore_number(values: pd.Series, column: NumericColumn) -> pd.Series:
    if column.kind == "number":
        return values.round(column.decimals).astype(column.dtype)
    whole = values.astype("Float64").round().astype("Int64")
    if column.kind == "integer":
        return whole if column.optional and "int" in column.dtype else whole.astype(column.dtype)
    counts = whole.to_numpy("int64", na_value=np.iinfo(np.int64).min)
    times = pd.Series(counts.view(f"datetime64[{column.unit}]"), index=values.index)
    if column.dtype == ISO_TEXT:
        return times.dt.strftime("%Y-%m-%d" if column.unit == "D" else "%Y-%m-%dT%H:%M:%S").astype("str")
    return times.astype(column.dtype)


def _restore_label(values: pd.Series, column: CategoricalColumn) -> pd.Series:
    if MERGED in column.categories or MISSING in column.categories:
        return values  # these two stand for no value of the original type
    if "bool" in column.dtype:
        found = values.map({"True": True, "False": False}).astype("boolean")
        return found if column.optional else found.astype("bool")
    if "int" in column.dtype:
        whole = values.astype("Int64")
        return whole if column.optional else whole.astype(column.dtype)
    return values.astype("category") if column.dtype == "category" else values
