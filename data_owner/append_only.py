"""The file of an append-only SQLite ledger: begun whole or not at all, and never begun anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from shared.errors import BadInput, Unreachable


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
    except (OSError, sqlite3.Error) as error:
        raise Unreachable(f"{name} cannot be made", field=str(path), remedy="free space or fix permissions") from error


def copy(path: Path, to: Path) -> None:
    """Copy the file whole, though another process may write to it meanwhile. Raises `Unreachable` if it cannot be."""
    try:
        with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(to)) as other:
            database.backup(other)
    except sqlite3.Error as error:
        raise Unreachable("cannot be copied", field=str(path), remedy="free space or fix permissions") from error


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
