"""Differencing: two releases whose records differ in a few people tell of those few what neither tells alone.

A quantile point is a mean of records: whom one of two schemas has and the other has not moves its points and no others.
The minimum count protects each release; here it protects two: their tables are the same, or one has at least so many
rows more. Rows that differ are not counted, for a corrected row differs as one does that left, and hides nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from data_owner.settings import OwnerSettings
from shared.canonical import canonical
from shared.errors import BadInput
from shared.frozen import Frozen, JsonFile, explained
from shared.image_codec import read_image

Digests = NDArray[np.uint64]
Kind = Literal["number", "date", "category", "image"]

WIDTH = 8
"""Bytes of a digest."""
KINDS: Mapping[str, Kind] = {"integer": "number", "boolean": "category"}
"""Kinds of column whose cells are read as another's here: which of the two owner.toml says changes no record."""


class View(Frozen):
    """The columns in which rows are compared, in order, and how the cells of each are read."""

    format: Literal["fair4free rows 1"] = "fair4free rows 1"
    columns: dict[str, Kind]


class Rows(JsonFile):
    """The rows of a table in a view, as a multiset: how many, and SHA-256 of their digests, rising. It tells of a row
    only who knows all the others."""

    what = "rows"
    remedy = "restore them from their backup"
    indent = None

    view: View
    count: int = Field(ge=0)
    sha256: str

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `BadInput`."""
        line, _, digests = data.partition(b"\n")
        if not digests:
            return super().from_bytes(data)
        with explained(cls.what, cls.remedy):  # an earlier program kept the digest of every row
            view = View.model_validate_json(line)
        if len(digests) % WIDTH:
            raise BadInput("cut short", field=cls.what, remedy=cls.remedy)
        return cls(view=view, count=len(digests) // WIDTH, sha256=hashlib.sha256(digests).hexdigest())

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
        digests = np.sort(_digests(data[start : start + width] for start in range(0, len(data), width)))
        return cls(view=view, count=len(digests), sha256=hashlib.sha256(digests.tobytes()).hexdigest())


def view_of(settings: OwnerSettings) -> View:
    """All columns but those that are left out."""
    kinds = {name: entry.kind for name, entry in settings.columns.items() if entry.kind != "exclude"}
    return View.model_validate({"columns": {name: KINDS.get(kind, kind) for name, kind in kinds.items()}})


@dataclass(frozen=True)
class Comparison:
    """Of the records with those of an earlier release: whether they are the same, and how many rows more or fewer.

    So many rows at least were removed or added, however many others were corrected.
    """

    version: int
    same: bool
    apart: int

    @classmethod
    def of(cls, version: int, before: Rows, after: Rows) -> Self:
        """Of rows in one view."""
        return cls(version, before.sha256 == after.sha256, abs(before.count - after.count))


def in_words(comparisons: Iterable[Comparison], minimum_count: int) -> str:
    """What was found, where every release is of so many rows more or fewer, or one of the same."""
    found: dict[str, list[str]] = {}
    for each in comparisons:
        said = f"{minimum_count} or more rows more or fewer than release"
        if each.apart < minimum_count:
            said = "the same records as release" if each.same else "hardly more or fewer rows than release"
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
