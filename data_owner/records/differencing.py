"""Differencing: two releases whose records differ in a few people tell of those few what neither tells alone.

A quantile point is a mean of records: whom one of two schemas has and the other has not moves its points and no others.
The minimum count protects each release; here it protects two. Rows are compared as a multiset, by 64 bits of SHA-256
of their cells: for millions of rows an accidental match is unlikely, and it makes the count of changes too small.

Digests of rows can be guessed by who knows what a row may hold: they stay with the records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_owner.settings import OwnerSettings
from shared.canonical import canonical
from shared.errors import BadInput
from shared.frozen import Frozen, explained
from shared.image_codec import read_image

Digests = NDArray[np.uint64]
Kind = Literal["number", "date", "category", "image"]

WIDTH = 8
"""Bytes of a digest."""
AGAIN = "restore them from their backup"
KINDS: Mapping[str, Kind] = {"integer": "number", "boolean": "category"}
"""Kinds of column whose cells are read as another's here: which of the two owner.toml says changes no record."""


class View(Frozen):
    """The columns in which rows are compared, in order, and how the cells of each are read."""

    format: Literal["fair4free rows 1"] = "fair4free rows 1"
    columns: dict[str, Kind]


@dataclass(frozen=True)
class Rows:
    """Digests (n,) of the rows of a table in a view, rising: the order of the rows tells nothing."""

    view: View
    digests: Digests

    @classmethod
    def of(cls, table: pd.DataFrame, view: View) -> Self:
        """Each cell as it was given, in canonical form, before anything that depends on other records.

        Raises `BadInput` naming a column that is not there or cannot be read so.
        """
        absent = [name for name in view.columns if name not in table]
        if absent:
            raise BadInput("the table lacks this column", field=", ".join(absent), remedy="put it back")
        cells = np.empty((len(table), len(view.columns)), f"<u{WIDTH}")
        for place, (name, kind) in enumerate(view.columns.items()):
            cells[:, place] = _cells(table[name], name, kind)
        width, data = WIDTH * cells.shape[1], cells.data.cast("B")
        return cls(view, np.sort(_digests(data[start : start + width] for start in range(0, len(data), width))))

    def to_bytes(self) -> bytes:
        """A line of JSON, then the digests."""
        return self.view.model_dump_json().encode() + b"\n" + self.digests.astype(f"<u{WIDTH}").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `BadInput`."""
        line, _, digests = data.partition(b"\n")
        with explained("rows", AGAIN):
            view = View.model_validate_json(line)
        if len(digests) % WIDTH:
            raise BadInput("cut short", field="rows", remedy=AGAIN)
        return cls(view, np.frombuffer(digests, f"<u{WIDTH}"))


def view_of(settings: OwnerSettings) -> View:
    """All columns but those that are left out."""
    kinds = {name: entry.kind for name, entry in settings.columns.items() if entry.kind != "exclude"}
    return View.model_validate({"columns": {name: KINDS.get(kind, kind) for name, kind in kinds.items()}})


def changed(before: Rows, after: Rows) -> int:
    """How many rows were removed or added between two tables in one view; a changed row is one of each."""
    both = np.concatenate([before.digests, after.digests])
    sign = np.repeat([1, -1], [len(before.digests), len(after.digests)])
    _, place = np.unique(both, return_inverse=True)
    return int(np.abs(np.bincount(place, weights=sign)).sum())


@dataclass(frozen=True)
class Comparison:
    """Of the records with those of an earlier release: how many rows `changed`, of how many in both tables
    together."""

    version: int
    changed: int
    rows: int

    @classmethod
    def of(cls, version: int, before: Rows, after: Rows) -> Self:
        return cls(version, changed(before, after), len(before.digests) + len(after.digests))


def in_words(comparisons: Iterable[Comparison], minimum_count: int) -> str:
    """What was found, where no release differs by fewer rows than the minimum count."""
    found: dict[str, list[str]] = {}
    for each in comparisons:
        if each.changed == 0:
            said = "the same records as release"
        elif each.changed < each.rows:
            said = f"{minimum_count} or more records differ from those of release"
        else:
            said = "no row is the same, as after a change to a whole column, so nothing tells who is missing: release"
        found.setdefault(said, []).append(str(each.version))
    return "; ".join(f"{said} {', '.join(versions)}" for said, versions in found.items())


def _cells(values: pd.Series, name: str, kind: Kind) -> Digests:
    """64 bits for each cell: of a number its own, of others a digest."""
    if kind == "image":
        return _digests(_pixels(cell, f"{name}, row {row}") for row, cell in enumerate(values))
    if kind == "category":
        codes, labels = pd.factorize(canonical(values, name, kind))
        return np.append(_digests(label.encode() for label in labels), np.uint64(0))[codes]  # a gap's code is -1
    numbers = canonical(values, name, kind, "us").to_numpy() + 0.0  # no zero with a sign
    numbers[np.isnan(numbers)] = np.nan  # nor another NaN
    if kind == "number":
        numbers = numbers.astype(np.float32)  # the next file may give them so
    return numbers.astype(f"<f{WIDTH}").view(f"<u{WIDTH}")


def _pixels(cell: object, name: str) -> bytes:
    """A picture as it looks: the same pixels may be written as other bytes."""
    pixels = read_image(cell if isinstance(cell, bytes) else b"", name)
    return repr(pixels.shape).encode() + pixels.tobytes()


def _digests(parts: Iterable[bytes | memoryview]) -> Digests:
    return np.frombuffer(b"".join(hashlib.sha256(part).digest()[:WIDTH] for part in parts), f"<u{WIDTH}")
