"""Reading what an analyst gives to the audit: synthetic rows, or real ones of their own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from consumer.image_folder import read_image_folder
from shared.errors import BadInput
from shared.schema import CategoricalColumn, Schema
from shared.table import check_names, drawn_rows, read_table

AUDITED_ROWS = 20_000
LEAST_ROWS = 50
"""Fewer rows tell nothing: models, and the neighbours that density counts, need some to learn from."""

MISSING_WORDS = frozenset(
    (
        *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN"),
        *("-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
        *("NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)
"""What a CSV reader takes for an empty cell."""


@dataclass(frozen=True)
class Rows:
    """Rows that were read, at these rising `places` of the `held` there are: all of a table, of pictures at most
    `AUDITED_ROWS`, drawn by the seed `draw`."""

    table: pd.DataFrame
    held: int
    places: NDArray[np.int64]
    draw: int


def read_rows(given: Path | pd.DataFrame, schema: Schema) -> Rows:
    """A table, a file of one or a folder of pictures; of many pictures so many are drawn, others each time: who changed
    some of them cannot know which.

    Text stays text: in a CSV a code such as 007 is no number, and a category named NA is not missing. Raises
    `Unreachable`, and `BadInput` also for fewer than `LEAST_ROWS`.
    """
    draw = secrets.randbits(32)
    if isinstance(given, pd.DataFrame):
        check_names(list(given.columns))
        table, held, source = given.reset_index(drop=True), len(given), "table"
    else:
        table, held = _read(given, schema, draw)
        source = str(given)
    if held < LEAST_ROWS:
        raise BadInput(f"fewer than {LEAST_ROWS} rows", field=source, remedy=f"give {LEAST_ROWS} or more for an audit")
    if schema.image is not None:
        table = drawn_rows(table, AUDITED_ROWS, np.random.default_rng(draw))
    places = drawn_rows(pd.DataFrame({"place": np.arange(held)}), len(table), np.random.default_rng(draw))["place"]
    return Rows(table, held, places.to_numpy(), draw)


def _read(path: Path, schema: Schema, draw: int) -> tuple[pd.DataFrame, int]:
    """The rows of a file, all of a table, and how many it holds."""
    texts = {
        column.name: column.categories
        for column in schema.columns
        if isinstance(column, CategoricalColumn) and column.dtype in ("str", "category")
    }
    if schema.image is not None and path.is_dir():
        return read_image_folder(path, schema.image, AUDITED_ROWS, draw, text=texts)
    table = read_table(path, text=texts)
    if path.suffix.lower() != ".parquet":
        for name in texts.keys() & set(table.columns):
            # a word for a gap is one unless a category has that name
            table[name] = table[name].mask(table[name].isin(MISSING_WORDS - set(texts[name])))
    return table, len(table)
