"""A folder of pictures: PNG files, `labels.csv` saying what each is, and `lineage.json` saying whence they came."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from shared.errors import BadInput, Unreachable
from shared.folder import appearing, read, there_already, writing
from shared.limits import LIMITS
from shared.schema import ImageColumn
from shared.table import drawn_rows, read_table

LABELS, LINEAGE = "labels.csv", "lineage.json"
FILES_A_FOLDER = 10_000


class _Pictures:
    """A file is named after its row in the run, so folders of several shards go together. `place` becomes `path`."""

    def __init__(self, path: Path, place: Path, column: ImageColumn, start: int) -> None:
        self._path, self._place, self._column, self._next = path, place, column, start

    def write(self, table: pd.DataFrame) -> None:
        rows = range(self._next, self._next + len(table))
        files = [f"{row // FILES_A_FOLDER:06d}/{row:010d}.png" for row in rows]
        labels = table.drop(columns=self._column.name)
        labels.insert(0, "file", files)
        with writing(self._path):
            for name, data in zip(files, table[self._column.name], strict=True):
                place = self._place / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            first = not (self._place / LABELS).is_file()
            labels.to_csv(self._place / LABELS, mode="a", header=first, index=False, quoting=csv.QUOTE_NONNUMERIC)
        self._next += len(table)


@contextmanager
def image_folder_writer(path: Path, column: ImageColumn, start: int, lineage: dict[str, str]) -> Iterator[_Pictures]:
    """Streams tables of PNG pictures, from row `start` of a run, into a new folder that appears only when all of it is
    written. Raises `BadInput` if the folder is there already, `Unreachable` if it cannot be written."""
    if path.exists():
        raise there_already(path, "choose a new folder")
    with appearing(path) as place:
        with writing(path):
            place.chmod(0o755)
        yield _Pictures(path, place, column, start)
        with writing(path):
            (place / LINEAGE).write_text(json.dumps(lineage), encoding="utf-8")


def read_image_folder(
    path: Path, column: ImageColumn, rows: int, seed: int, *, text: Collection[str] = ()
) -> tuple[pd.DataFrame, int]:
    """At most `rows` PNG pictures of such a folder with their labels, drawn by `seed`, and how many it holds.

    `text` is of `read_table`; names of files are text. Raises `BadInput` and `Unreachable`.
    """
    labels = read_table(path / LABELS, text=(*text, "file"))
    if "file" not in labels.columns:
        raise BadInput("labels.csv lacks this column", field="file", remedy="name the file of each row")
    if bool(labels["file"].isna().any()):
        raise BadInput("a row names no file", field="file", remedy="remove the row")
    if column.name != "file" and column.name in labels.columns:
        raise BadInput(
            "labels.csv has a column named as the pictures are", field=column.name, remedy="rename or remove it"
        )
    held = len(labels)
    labels = drawn_rows(labels, rows, np.random.default_rng(seed))
    left = len(labels) * (math.prod(column.shape) + LIMITS.beside_pixels_bytes)
    pictures = []
    for name in labels["file"].astype("str"):
        try:
            place = _file(path, name)
            if place is None:
                raise BadInput("there is a label but no such file", field=name, remedy="remove its row from labels.csv")
            size = place.stat().st_size
            if size > LIMITS.source_bytes:
                raise BadInput("the file is larger than the limit", field=name, remedy="give a smaller one")
            left -= size
            if left < 0:
                raise BadInput(
                    "the files are larger together than pictures of this size are",
                    field=str(path / LABELS),
                    remedy="give files that hold little beside the picture",
                )
            pictures.append(place.read_bytes())
        except OSError as error:
            raise Unreachable("cannot be read", field=name, remedy="remove its row from labels.csv") from error
        except ValueError:
            raise BadInput("not the name of a file", field=str(path / LABELS), remedy="remove that row") from None
    table = labels.drop(columns="file")
    table.insert(0, column.name, pd.Series(pictures, dtype="object"))
    return table, held


def read_lineage(path: Path) -> dict[str, str]:
    """What `lineage.json` says; empty where there is none that can be read."""
    place = _file(path, LINEAGE)
    if place is None:
        return {}
    try:
        found = json.loads(read(place, "", LIMITS.lineage_bytes))
    except (BadInput, Unreachable, ValueError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _file(path: Path, name: str) -> Path | None:
    """The file of this name that lies in a folder; None where there is none, or a link leads out or round."""
    try:
        place = (path / name).resolve()
    except RuntimeError:  # links in a circle
        return None
    return place if place.is_relative_to(path.resolve()) and place.is_file() else None
