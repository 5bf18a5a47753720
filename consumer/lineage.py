"""Where a file of synthetic rows came from: what it says itself, and whether the same rows can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from consumer.image_folder import read_lineage
from consumer.reading import Rows
from shared.canonical import canonical, restore
from shared.errors import BadInput
from shared.generation import Synthesiser
from shared.image_codec import canonical_images
from shared.limits import LIMITS
from shared.schema import Column, ImageColumn
from shared.table import UNNAMED_INDEX

MANIFEST, STUDENT = "fair4free.manifest_sha256", "fair4free.student_sha256"
SEED, ROWS, GROUPS = "fair4free.seed", "fair4free.rows", "fair4free.groups"
AS_RECORDED, BALANCED = "as recorded", "balanced"
BLOCKS = 16
"""Made again, of a table some million rows; in more, changes to a quarter of the blocks go unseen once in a hundred."""


class Lineage(StrEnum):
    PROVED = "made by this student from this release, as making a part of them again has shown"
    ALTERED = (
        "said to be made by this student from this release, but not the rows that it makes: changed since, or made on "
        "another kind of processor"
    )
    OTHER = "made by another student or from another release"
    UNKNOWN = "unknown: the file does not say, as no CSV can"


@dataclass(frozen=True)
class Run:
    """Which rows a file holds: `start`..`stop`-1 of the run of this seed."""

    seed: int
    start: int
    stop: int
    balanced: bool

    def said(self) -> dict[str, str]:
        return {
            SEED: str(self.seed),
            ROWS: f"{self.start}-{self.stop - 1}",
            GROUPS: BALANCED if self.balanced else AS_RECORDED,
        }

    @classmethod
    def of(cls, said: Mapping[str, str]) -> Self | None:
        """What a file says; None if that is no run."""
        first, _, last = said.get(ROWS, "").partition("-")
        try:
            found = cls(int(said.get(SEED, "")), int(first), int(last) + 1, said.get(GROUPS) == BALANCED)
            is_run = 0 <= found.start < found.stop <= LIMITS.rows and said.items() >= found.said().items()
            return found if is_run else None
        except ValueError:
            return None


@dataclass(frozen=True)
class Origin:
    """Where rows came from, and which of this student's they are where that is proved."""

    lineage: Lineage
    run: Run | None = None


def origin_of(path: Path, rows: Rows, synthesiser: Synthesiser, expected: Mapping[str, str]) -> Origin:
    """Whether the rows of a file are this student's from this release, and which."""
    said = _said(path)
    if said is None:
        return Origin(Lineage.UNKNOWN)
    if any(said.get(key) != expected[key] for key in (MANIFEST, STUDENT)):
        return Origin(Lineage.OTHER)
    run = Run.of(said)
    is_proved = run is not None and _has_no_index(path) and made_again(run, rows, synthesiser)
    return Origin(Lineage.PROVED, run) if is_proved else Origin(Lineage.ALTERED)


def made_again(run: Run, rows: Rows, synthesiser: Synthesiser) -> bool:
    """Whether there are as many rows as the run has in the schema's columns and no others, and those that were read of
    `BLOCKS` of its blocks are its own.

    Which blocks is drawn anew each time, as which pictures are read is: who changed rows cannot know.
    """
    if rows.held != run.stop - run.start or set(rows.table.columns) != set(synthesiser.schema.names):
        return False
    blocks = (run.start + rows.places) // synthesiser.block_rows
    found = np.unique(blocks)
    drawn = np.random.default_rng().choice(found, min(BLOCKS, len(found)), replace=False)
    return all(_same(run, rows.places[blocks == block], rows.table[blocks == block], synthesiser) for block in drawn)


def _same(run: Run, places: NDArray[np.int64], given: pd.DataFrame, synthesiser: Synthesiser) -> bool:
    """Whether rows are those that a run has at their places, which rise, within one block."""
    first, stop = int(places[0]), int(places[-1]) + 1
    made = pd.concat(synthesiser.rows(run.seed, run.start + first, run.start + stop, run.balanced), ignore_index=True)
    again = restore(made.iloc[places - first].reset_index(drop=True), synthesiser.schema)
    kept = given.reset_index(drop=True)
    try:
        return all(
            _exact(again[column.name], column).equals(_exact(kept[column.name], column))
            for column in synthesiser.schema.columns
        )
    except BadInput:  # no such values at all, of which the audit says more
        return False


def _exact(values: pd.Series, column: Column) -> pd.Series:
    """A column's values, in whatever types a file has them. Unlike in `conform` a word stays what it is, known or not,
    and a time is no day."""
    if isinstance(column, ImageColumn):
        return canonical_images(values, column)
    return canonical(values, column.name, column.kind, "us")


def _has_no_index(path: Path) -> bool:
    """Whether a Parquet file has no column that reading leaves out as the index of rows."""
    if path.is_dir():
        return True
    with path.open("rb") as stream:
        return not any(UNNAMED_INDEX.fullmatch(name) for name in parquet.read_schema(stream).names)


def _said(path: Path) -> dict[str, str] | None:
    """What a folder or a Parquet file says of itself; None where it cannot say."""
    if path.is_dir():
        said = read_lineage(path)
    elif path.suffix.lower() == ".parquet":
        with path.open("rb") as stream:
            stored = parquet.read_metadata(stream).metadata or {}
        said = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in stored.items()}
    else:
        return None
    return said if MANIFEST in said else None
