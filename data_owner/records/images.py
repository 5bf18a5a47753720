"""Reading pictures with their labels: a folder, a zip archive or a NumPy array beside a CSV file or CelebA's list.

One picture is held decoded at a time. What cannot be used is named: it refuses everything, or is skipped, as the
caller's policy says.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd

from data_owner.settings import ColumnSettings
from shared.errors import BadInput, Unreachable
from shared.folder import check_no_pipe, read
from shared.image_codec import Pixels, as_png, centre_of, read_image
from shared.limits import LIMITS
from shared.schema import ImageColumn
from shared.table import check_names, read_table

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "image_id")
"""Names of the column of a CSV that says which picture a row is of."""

FACE_SIDE = 64
"""The side to which pictures in CelebA's layout are brought, unless another is asked for."""

LARGEST_SIDE = 112
"""Of a square, for two groups: a larger picture's decoder, or one for many groups, has more weights than the limit."""

Place = TypeVar("Place")


@dataclass(frozen=True)
class Skipped:
    """A file, or a row of the labels, that was left out, and why."""

    name: str
    problem: str


@dataclass(frozen=True)
class Labelled:
    """PNG pictures in the column "image" beside their labels, and what was left out."""

    table: pd.DataFrame
    skipped: tuple[Skipped, ...]


class _Source(Protocol):
    """Pictures by name."""

    names: list[str]

    def picture(self, name: str, size: int | None) -> Pixels: ...


def read_labelled(
    images: Path, labels: Path, *, size: int | None = None, skip_bad_files: bool | None = None
) -> Labelled:
    """Pictures of one size and mode with their labels; `size` crops the centre and resizes it to that side.

    `labels` is a CSV with a column of file names (none for an array, whose rows are in order) or, with the suffix
    .txt, a list in CelebA's layout, which means `size` 64 and `skip_bad_files` unless said otherwise. Raises
    `BadInput` naming the first file that cannot be used, when bad files are not to be skipped.
    """
    celeba = labels.suffix.lower() == ".txt"
    size = FACE_SIDE if celeba and size is None else size
    if size is not None and not LIMITS.least_image_side <= size <= LARGEST_SIDE:
        raise BadInput(
            "not a size that is taken", field="--size", remedy=f"give {LIMITS.least_image_side} to {LARGEST_SIDE}"
        )
    rows = _celeba_list(labels) if celeba else read_table(labels)
    key = None if _is_array(images) else _file_column(rows, labels)
    if key != "image" and "image" in rows.columns:
        raise BadInput(
            "the labels have a column named as the pictures will be", field="image", remedy="rename or remove it"
        )
    wanted = [] if key is None else rows[key].astype("str").tolist()
    with _source(images, wanted) as source:
        names = source.names if key is None else wanted
        if key is None and len(rows) != len(names):
            raise BadInput(
                "the array and the labels differ in length", field=str(labels), remedy="give a row a picture"
            )
        pictures, problems = _read(source, names, size)
    if problems and not (celeba if skip_bad_files is None else skip_bad_files):
        more = f" ({len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise BadInput(
            f"{problems[0].problem}{more}", field=problems[0].name, remedy="mend it, or use --skip-bad-files"
        )
    if not pictures:
        commonest = Counter(entry.problem for entry in problems).most_common(1)[0][0]
        raise BadInput(
            f"no picture can be used; the commonest problem: {commonest}",
            field=str(images),
            remedy="mend the files, and check that the labels are of them",
        )
    kept = sorted(pictures)
    table = rows.iloc[kept].drop(columns=[] if key is None else [key]).reset_index(drop=True)
    table.insert(0, "image", pd.Series([pictures[row] for row in kept], dtype="object"), allow_duplicates=False)
    return Labelled(table, tuple(problems))


def holds_images(values: pd.Series) -> bool:
    """Whether a column holds files, as bytes."""
    return values.dtype == "object" and any(isinstance(value, bytes) for value in values.head(100))


def image_settings(values: pd.Series, name: str) -> ColumnSettings:
    """What a column of pictures is, by its first. Raises `BadInput` if that is none: no other bytes are taken."""
    first = next(value for value in values if isinstance(value, bytes))
    try:
        shape = read_image(first, name).shape
    except BadInput as error:
        raise BadInput(
            f"holds bytes, the first of which are no picture that is taken: {error.problem}",
            field=name,
            remedy="leave the column out of the file, or if it holds pictures mend that one",
        ) from None
    image_column(name, shape)
    return ColumnSettings(kind="image", shape=shape)


def image_column(name: str, shape: tuple[int, int, int]) -> ImageColumn:
    """Raises `BadInput` for a size that is not taken."""
    height, width, channels = shape
    is_taken = all(LIMITS.least_image_side <= side <= LIMITS.image_side for side in (height, width))
    if not is_taken or channels not in (1, 3):
        raise BadInput(
            f"pictures are {height} x {width}; {LIMITS.least_image_side} pixels a side and more are taken, to "
            f"{LARGEST_SIDE} x {LARGEST_SIDE}",
            field=name,
            remedy="resize them, or use --size",
        )
    return ImageColumn(name=name, kind="image", height=height, width=width, channels=1 if channels == 1 else 3)


def _read(source: _Source, names: list[str], size: int | None) -> tuple[dict[int, bytes], list[Skipped]]:
    """PNG pictures by row, and what cannot be used: of another shape than most, not readable, or without a partner."""
    known, wanted, repeated = set(source.names), set(names), Counter(names)
    found: dict[int, bytes] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    problems = []
    for row, name in enumerate(names):
        if name not in known:
            problems.append(Skipped(name, "there is a label but no such file"))
        elif repeated[name] > 1:
            problems.append(Skipped(name, "has more than one row of labels"))
        else:
            try:
                pixels = source.picture(name, size)
            except BadInput as error:
                problems.append(Skipped(name, error.problem))
                continue
            found[row], shapes[row] = as_png(pixels), pixels.shape
    problems += [Skipped(name, "there is no label for this file") for name in source.names if name not in wanted]
    if shapes:
        usual = Counter(shapes.values()).most_common(1)[0][0]
        for row, shape in shapes.items():
            if shape != usual:
                problems.append(Skipped(names[row], f"is {_said(shape)}, and most pictures are {_said(usual)}"))
                del found[row]
    return found, problems


def _said(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]} in {'grey' if shape[2] == 1 else 'colour'}"


@contextmanager
def _source(path: Path, wanted: list[str]) -> Iterator[_Source]:
    """A folder, zip archive or array, whose names are taken as labels have them, of which there are the `wanted`.

    Raises `Unreachable` if it cannot be read, `BadInput` if it holds no picture.
    """
    with ExitStack() as opened:
        try:
            source = _open(path, wanted, opened)
        except OSError as error:
            raise Unreachable("cannot be read", field=str(path), remedy="check the path and its permissions") from error
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            raise BadInput("a damaged file", field=str(path), remedy="give the file again") from None
        if not source.names:
            raise BadInput("holds no picture", field=str(path), remedy=f"give files that end in {', '.join(SUFFIXES)}")
        yield source


def _open(path: Path, wanted: list[str], opened: ExitStack) -> _Source:
    check_no_pipe(path)
    if path.is_dir():
        # a name that is no UTF-8 can be in no CSV of labels: it is told as well as UTF-8 can
        names = {
            file.relative_to(path).as_posix().encode(errors="backslashreplace").decode(): file
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }
        return _Files(_as_labelled({name: file for name, file in names.items() if _is_picture(name)}, wanted))
    if _is_array(path):
        return _Array(_memory_map(path), path.name)
    if path.suffix.lower() == ".zip":
        archive = opened.enter_context(zipfile.ZipFile(path))
        return _Archive(archive, _as_labelled({name: name for name in archive.namelist() if _is_picture(name)}, wanted))
    if path.exists():
        raise BadInput("neither a folder, .zip nor .npy", field=str(path), remedy="give one of those")
    raise Unreachable("cannot be read", field=str(path), remedy="check the path and its permissions")


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ".npy" and not path.is_dir()


def _as_labelled(files: Mapping[str, Place], wanted: Iterable[str]) -> dict[str, Place]:
    """The files by name below the folder, of those that all of them lie in, below which labels know most of them."""
    if not files:
        return {}
    folders = zip(*(name.split("/")[:-1] for name in files), strict=False)
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, folders)]
    prefixes = ["".join(f"{part}/" for part in shared[:depth]) for depth in range(len(shared) + 1)]
    named = set(wanted)
    start = len(max(prefixes, key=lambda prefix: sum(prefix + name in files for name in named)))
    return {name[start:]: file for name, file in files.items()}


def _memory_map(path: Path) -> np.ndarray:
    """The array of a .npy file. Raises `OSError` and `BadInput`."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception:  # NumPy raises errors of many kinds on damaged headers
        raise BadInput("a damaged file", field=str(path), remedy="give the file again") from None


def _is_picture(name: str) -> bool:
    """Whether it is called as pictures are; what is hidden, or in a hidden folder, is some program's."""
    parts = PurePosixPath(name).parts
    return name.lower().endswith(SUFFIXES) and parts[0] != "__MACOSX" and not any(part[0] == "." for part in parts)


class _Files:
    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self.names = list(files)

    def picture(self, name: str, size: int | None) -> Pixels:
        try:
            if self._files[name].stat().st_size > LIMITS.source_bytes:
                raise BadInput("the file is larger than the limit", field=name, remedy="give a smaller one")
            data = self._files[name].read_bytes()
        except OSError:
            raise BadInput("the file cannot be read", field=name, remedy="check its permissions") from None
        return read_image(data, name, size)


class _Archive:
    def __init__(self, archive: zipfile.ZipFile, members: Mapping[str, str]) -> None:
        self._archive, self._members = archive, members
        self._held = Counter(archive.namelist())
        self.names = list(members)

    def picture(self, name: str, size: int | None) -> Pixels:
        if self._held[self._members[name]] > 1:
            raise BadInput("is in the archive more than once", field=name, remedy="zip it again with one of them")
        member = self._archive.getinfo(self._members[name])
        if member.file_size > LIMITS.source_bytes:
            raise BadInput("the file is larger than the limit", field=name, remedy="give a smaller one")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadInput("is compressed otherwise than by deflate", field=name, remedy="zip it again with deflate")
        try:
            with self._archive.open(member) as stream:
                data = stream.read(member.file_size)  # no more is inflated than the archive says there is
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError):
            raise BadInput("cannot be read out of the archive", field=name, remedy="give it again") from None
        return read_image(data, name, size)


class _Array:
    """Rows of an array (n, height, width) or (n, height, width, channels) of uint8."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        channels = array.shape[3] if array.ndim == 4 else 1
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or channels not in (1, 3) or array.size == 0:
            raise BadInput(
                "not an array of pictures",
                field=name,
                remedy="give (n, height, width) or (n, height, width, 1 or 3) of uint8",
            )
        self._array = array if array.ndim == 4 else array[..., None]
        self.names = [f"row {row}" for row in range(len(array))]

    def picture(self, name: str, size: int | None) -> Pixels:
        pixels: Pixels = np.ascontiguousarray(self._array[int(name.removeprefix("row "))])
        return pixels if size is None else centre_of(pixels, size)


def _file_column(rows: pd.DataFrame, labels: Path) -> str:
    for name in FILE_COLUMNS:
        if name in rows.columns:
            if bool(rows[name].isna().any()):
                raise BadInput("a row names no file", field=name, remedy="remove the row")
            return name
    raise BadInput(
        "no column says which file a row is of", field=str(labels), remedy=f"name one of them {FILE_COLUMNS[0]}"
    )


def _celeba_list(path: Path) -> pd.DataFrame:
    """list_attr_celeba.txt: a count, the names of the attributes, then a file name and 1 or -1 for each attribute."""
    try:
        lines = read(path, "check the path and its permissions", LIMITS.table_bytes).decode().splitlines()
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", field=str(path), remedy="save it as UTF-8") from None
    names = lines[1].split() if len(lines) > 1 else []
    check_names([FILE_COLUMNS[0], *names])
    rows = []
    for number, line in enumerate(lines[2:], 3):
        cells = line.split()
        if len(cells) != len(names) + 1 or not set(cells[1:]) <= {"1", "-1"}:
            raise BadInput(
                f"line {number} is not a file name with 1 or -1 for each attribute",
                field=str(path),
                remedy="give the list as CelebA has it",
            )
        rows.append((cells[0], *(cell == "1" for cell in cells[1:])))
    if not rows:
        raise BadInput("the list has no rows", field=str(path), remedy="give the list as CelebA has it")
    return pd.DataFrame(rows, columns=[FILE_COLUMNS[0], *names]).astype({FILE_COLUMNS[0]: "str"})
