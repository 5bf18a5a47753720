"""Tables as people keep them: CSV and Parquet, read whole and written as a stream."""

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
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as parquet

from shared.canonical import EXACT, EXACT_TYPES
from shared.errors import BadInput, Unreachable
from shared.folder import PUBLIC, check_no_pipe, flush, there_already, writing
from shared.limits import LIMITS

SUFFIXES = (".csv", ".parquet")
ANOTHER_PATH = "choose another path, or remove it first"
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
PADDED, EXPONENT = r"0\d", r"\d+[eE]\d{2,}"
"""How codes begin and are written that pandas takes for numbers: 01069 and 1E05. Programs sign an exponent, 1e+05."""
CODE_CELL = rf'(?m)(?:^|[,"\r]) *(?:{PADDED}[\d.]*(?:[eE]\d+)?|{EXPONENT}) *(?:$|[,"\r])'
BLOCK = 1 << 24
"""Bytes of a CSV that are looked through at once."""


def read_table(path: Path, *, text: Collection[str] | Literal["codes", "all"] = "codes") -> pd.DataFrame:
    """Read a CSV (UTF-8, header row; an empty cell, NA, NaN, null and None mean missing) or Parquet file.

    Columns in `text` come from a CSV as they are written: codes keep their zeros, only an empty cell is missing. What
    type pandas gives a column, and with it how each cell reads, may hang on any one cell. "codes" are the columns that
    are `written_as_codes`.
    Raises `Unreachable` when it cannot be read and `BadInput`, with the line or column, when it is no good table.
    """
    try:
        check_no_pipe(path)
        if path.suffix.lower() not in SUFFIXES:
            raise BadInput("not a .csv or .parquet file", field=str(path), remedy="convert it to CSV or Parquet")
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


def drawn_rows(table: pd.DataFrame, rows: int, generator: np.random.Generator) -> pd.DataFrame:
    """At most `rows` rows in their order, drawn at random: not the first ones, for a table may be sorted by class."""
    if len(table) > rows:
        table = table.iloc[np.sort(generator.choice(len(table), rows, replace=False))]
    return table.reset_index(drop=True)


def written_as_codes(cells: pd.Series) -> bool:
    """Whether numbers kept as text are written as no amount is: with a zero before the first digit (01069) or, where
    none has a point or a sign, with an exponent of two digits (1E05)."""
    padded, exponents = cells.str.match(PADDED), cells.str.fullmatch(EXPONENT)
    return bool(padded.any()) or bool(exponents.any() and not cells.str.contains("[.+-]").any())


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


class TableWriter:
    """Streams tables of one shape to a CSV or Parquet file that appears only when all of it is written.

    Parquet carries `metadata` as key-value metadata; memory stays at one table. A file that is there is replaced only
    if `replaces`. Raises `BadInput` and `Unreachable`.
    """

    def __init__(self, path: Path, metadata: dict[str, str], *, replaces: bool = False) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise BadInput("not a .csv or .parquet file", field=str(path), remedy="choose one of those suffixes")
        if not replaces and os.path.lexists(path):
            raise there_already(path, ANOTHER_PATH)
        self._path = path
        self._replaces = replaces
        self._part: Path | None = None
        self._metadata = metadata
        self._writer: parquet.ParquetWriter | pyarrow.csv.CSVWriter | None = None

    def write(self, table: pd.DataFrame) -> None:
        batch = pa.Table.from_pandas(table, preserve_index=False)
        with writing(self._path):
            if self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # a name of its own: two runs to one path do not write into each other
                handle, part = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
                self._part, self._stream = Path(part), os.fdopen(handle, "wb")
                self._part.chmod(PUBLIC)
                self._writer = self._open(batch.schema)
            self._writer.write_table(batch.cast(self._schema))

    def _open(self, schema: pa.Schema) -> parquet.ParquetWriter | pyarrow.csv.CSVWriter:
        """Arrow gets the file and not its path, which it would take for UTF-8 whatever the locale."""
        self._schema = schema.with_metadata({**(schema.metadata or {}), **self._metadata})
        if self._path.suffix.lower() == ".csv":
            return pyarrow.csv.CSVWriter(self._stream, self._schema)
        return parquet.ParquetWriter(self._stream, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self._path):
                if self._writer is not None:
                    self._writer.close()
                if self._part is not None and error is None:
                    self._stream.flush()
                    os.fsync(self._stream.fileno())
                    self._publish(self._part)
                    flush(self._path.parent)
        finally:
            if self._part is not None:
                with suppress(OSError):
                    self._part.unlink(missing_ok=True)
                    self._stream.close()

    def _publish(self, part: Path) -> None:
        """Rename into place: where nothing may be replaced, over an empty file that only one run can make."""
        if not self._replaces:
            try:
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, PUBLIC))
            except FileExistsError:  # somebody else's by now
                raise there_already(self._path, ANOTHER_PATH) from None
        try:
            part.replace(self._path)
        except BaseException:
            if not self._replaces:  # or it would be in the way of the next run
                self._path.unlink(missing_ok=True)
            raise


def _read_csv(path: Path, text: Collection[str] | Literal["codes", "all"]) -> pd.DataFrame:
    """Two passes: the shape with the csv module, which can say which line is wrong, then the values."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True, skipinitialspace=True)
            header = next(rows, [])
            if len(header) == 1 and re.search(r"[;\t|]", header[0]):
                raise BadInput(
                    "cells are not separated by commas",
                    field=str(path),
                    remedy="save it with commas between cells and decimal points, not commas, in numbers",
                )
            check_names(header)
            for row in rows:
                if row and len(row) != len(header):
                    raise BadInput(
                        f"line {rows.line_num} has {len(row)} cells and the header {len(header)}",
                        field=str(path),
                        remedy="mend the line, quote the cell that holds a comma, or remove what stands above the "
                        "header: it must be the first line",
                    )
        values = partial(pd.read_csv, path, encoding="utf-8-sig", skipinitialspace=True, low_memory=False)
        if text == "all":
            return values(dtype="str", keep_default_na=False, na_values=[""])
        table: pd.DataFrame = values()
        named = () if isinstance(text, str) else text
        # long numbers are rounded beside gaps, or of no type: as text they stay what they are
        if rounded := [name for name in header if name not in named and _beyond_exact(table[name])]:
            table[rounded] = values(usecols=rounded, dtype="str")
        numbers = [name for name in header if pd.api.types.is_numeric_dtype(table[name])]
        if text == "codes" and numbers and _may_hold_codes(path):
            written = values(usecols=numbers, dtype="str")
            codes = [name for name in numbers if written_as_codes(written[name])]
            table[codes] = written[codes]
        if verbatim := [name for name in header if name in named]:
            table[verbatim] = values(usecols=verbatim, dtype="str", keep_default_na=False, na_values=[""])
        return table
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", field=str(path), remedy="save it as UTF-8") from None
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise BadInput("cannot be read as CSV", field=str(path), remedy="check quotes and separators") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    """The columns by their Parquet types alone; what pandas noted beside them may name types we do not take."""
    try:
        with path.open("rb") as stream:
            with parquet.ParquetFile(stream) as file:
                names = [name for name in file.schema_arrow.names if not UNNAMED_INDEX.fullmatch(name)]
                check_names(names)
                _check_unpacked(file, path)
            found = parquet.read_table(stream, columns=names)
        table = found.to_pandas(ignore_metadata=True)
        for name, column in zip(found.column_names, found.columns, strict=True):
            if column.type in EXACT_TYPES and column.null_count:
                table[name] = column.to_pandas(types_mapper=EXACT_TYPES.get)
            elif pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type):
                labels = table[name].cat.categories.astype("str")  # of an empty dictionary pandas forgets its type
                table[name] = table[name].cat.rename_categories(labels)
        return table
    except (pa.ArrowException, ValueError, OSError):
        raise BadInput("cannot be read as Parquet", field=str(path), remedy="write the file again") from None


def _check_unpacked(file: parquet.ParquetFile, path: Path) -> None:
    """Raises `BadInput` for more cells or bytes than the limits: repeated values take next to nothing in the file."""
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    cells = sum(
        max(group.num_rows, group.column(each).num_values) for group in groups for each in range(group.num_columns)
    )
    for field in file.schema_arrow:
        if pa.types.is_nested(field.type):
            raise BadInput("a cell of it holds several values", field=field.name, remedy="leave it out of the file")
    leaves = [file.schema.column(index) for index in range(file.metadata.num_columns)]
    fixed = [leaf.length for leaf in leaves if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY"]
    size = sum(group.total_byte_size for group in groups) + sum(fixed) * file.metadata.num_rows
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    if cells > LIMITS.table_cells or size > LIMITS.table_bytes or _text_bytes(path, texts) > LIMITS.table_bytes:
        raise BadInput("the table takes more memory than the limit", field=str(path), remedy="give a sample of it")


def _text_bytes(path: Path, texts: list[str]) -> int:
    """What text columns of a Parquet file take; a value is read once for all rows that repeat it."""
    total = 0
    with path.open("rb") as stream, parquet.ParquetFile(stream, read_dictionary=texts) as file:
        packed = [field.name for field in file.schema_arrow if pa.types.is_dictionary(field.type)]
        for batch in file.iter_batches(columns=[name for name in packed if name in texts]):
            for column in batch.columns:
                lengths = pyarrow.compute.binary_length(column.dictionary).take(column.indices)
                total += pyarrow.compute.sum(lengths).as_py() or 0
    return total


def _may_hold_codes(path: Path) -> bool:
    """Whether a cell of any column is written as a code: seldom so, and asked faster than columns are read as text."""
    with path.open("rb") as stream:
        blocks = iter(lambda: stream.read(BLOCK) + stream.readline(), b"")
        return any(pyarrow.compute.match_substring_regex(pa.scalar(block), CODE_CELL).as_py() for block in blocks)


def _beyond_exact(values: pd.Series) -> bool:
    """Whether these are whole numbers in floats, too long to be exact, or too long for any type, which are objects as
    booleans beside gaps are."""
    if values.dtype == "object":
        return pd.api.types.infer_dtype(values, skipna=True) != "boolean"
    if not pd.api.types.is_float_dtype(values):
        return False
    present = values.dropna()
    return bool((present % 1 == 0).all()) and bool((present.abs() >= EXACT).any())
