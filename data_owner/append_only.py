"""The file of an append-only SQLite ledger: begun whole or not at all, and never begun anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from shared import folder
from shared.errors import BadInput, Unreachable, VerificationFailure

_REMEDY, _RESTORE = "free space or fix permissions", "restore it from its backup"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""Of another form, no database, or one without our tables, as an emptied file is."""


def create(path: Path, tables: str, name: str) -> None:
    """Make the file with `tables`, an SQL script. Raises `BadInput` if there is one, `Unreachable` if it cannot be."""
    if path.exists():
        raise BadInput(f"{name} is there already", field=str(path), remedy="keep it: it is never replaced")
    fresh = path.with_name(f".{path.name}")
    try:
        fresh.unlink(missing_ok=True)
        fresh.touch(0o600)
        with closing(sqlite3.connect(fresh)) as database:
            database.executescript(tables)
        fresh.rename(path)
        folder.flush(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise Unreachable(f"{name} cannot be made", field=str(path), remedy=_REMEDY) from error


@contextmanager
def guarded(path: Path, name: str) -> Iterator[None]:
    """Raises `Unreachable` where SQLite refuses the body.

    To restore is to forget what came since, so nobody is told to but where the file is damaged.
    """
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite quotes what it cannot parse, and that is no text
        raise damaged(path, name) from error
    except sqlite3.Error as error:
        # without a code: Python found a text that is none
        unset = sqlite3.SQLITE_CORRUPT if isinstance(error, sqlite3.OperationalError) else 0
        code = getattr(error, "sqlite_errorcode", unset) & 0xFF  # the rest of it says which kind of this error
        if code == sqlite3.SQLITE_FULL:
            raise full(path, name) from error
        if code in _DAMAGED:
            raise damaged(path, name) from error
        raise Unreachable(f"{name} cannot be used", field=str(path), remedy=_REMEDY) from error


@contextmanager
def intact(path: Path, name: str) -> Iterator[None]:
    """Raises `Unreachable` where the body cannot parse what stands in a row."""
    try:
        yield
    except (VerificationFailure, ValueError, TypeError) as error:
        raise damaged(path, name) from error


def check_there(path: Path, name: str) -> None:
    """Raises `Unreachable` unless the file is there: what vanished is never begun anew."""
    if not path.is_file():
        raise Unreachable(f"{name} is not there", field=str(path), remedy=_RESTORE)


def damaged(path: Path, name: str) -> Unreachable:
    return Unreachable(f"{name} is damaged", field=str(path), remedy=_RESTORE)


def full(path: Path, name: str) -> Unreachable:
    return Unreachable(f"{name} cannot be written: the disk is full", field=str(path), remedy="free space")


def copy(path: Path, to: Path) -> None:
    """Copy the file whole, though another process may write to it meanwhile. Raises `Unreachable` if it cannot be."""
    try:
        with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(to)) as other:
            database.backup(other)
    except sqlite3.Error as error:
        raise Unreachable("cannot be copied", field=str(path), remedy=_REMEDY) from error


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of it on disk, or none of it; one process at a time."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a failed COMMIT has rolled back already
            database.execute("ROLLBACK")
        raise
