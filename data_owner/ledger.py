"""The egress log on disk: append-only, in SQLite with a write-ahead log and full synchronisation.

What is granted is logged before it takes effect, what is withdrawn takes effect before it is logged, and every byte
is logged before it is sent. So a stop at any point leaves a log that is never short of what happened, and giving
the command again completes it.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from data_owner import append_only
from protocol.checkpoint import Checkpoint
from protocol.entry import Approval, Denial, Enrolment, Entry, Override, Revocation, Served, Standing, parse_entry
from protocol.ledger_file import Countersigned
from protocol.merkle import Tree
from protocol.refusals import NotLogged, Rewritten
from shared.frozen import explained
from shared.limits import LIMITS

Kind = TypeVar("Kind", Approval, Denial, Override, Enrolment, Revocation, Served)

_NAME = "the egress log"
_DENIAL = b'"kind":"denial"'
"""In every denial, and in no text of another entry, whose quotes are escaped."""
_TABLES = """
CREATE TABLE entries (place INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE issued (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT;
CREATE TABLE countersigned (party TEXT PRIMARY KEY, key TEXT NOT NULL, note BLOB NOT NULL) STRICT;
CREATE TRIGGER entries_keep BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


@dataclass(frozen=True)
class Proof:
    """That the approval of a release is in the log, and that the log continues the one of `last_size` entries."""

    checkpoint: bytes
    consistency: list[bytes]
    approval: bytes
    index: int
    inclusion: list[bytes]


def new_entry(kind: type[Kind], **fields: object) -> Kind:
    """An entry with a nonce of its own. Raises `BadInput` naming the field that a log cannot take."""
    with explained("egress log", "write less, in plain text"):
        return kind.model_validate({"nonce": secrets.token_hex(16), **fields})


class Ledger:
    """One open log. Threads share it; other processes may append to the same file at the same time."""

    def __init__(self, path: Path) -> None:
        """Raises `Unreachable` if the file is not there, as a log that vanished is never begun anew, or is damaged,
        `Rewritten` if an entry is missing and `RuleBroken` if one may not stand there."""
        append_only.check_there(path, _NAME)
        self._path = path
        self._lock = threading.RLock()
        self._tree, self._standing = Tree(), Standing()
        self._approvals: dict[int, tuple[int, bytes]] = {}
        with _guarded(path):
            self._database = sqlite3.connect(
                path, timeout=LIMITS.ledger_wait_seconds, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._catch_up()

    @classmethod
    def create(cls, path: Path) -> None:
        """Begin an empty log. Raises `BadInput` if there is one."""
        append_only.create(path, _TABLES, _NAME)

    @staticmethod
    def check_writable(path: Path) -> None:
        """Raises `Unreachable` unless an entry could be added now. Adds none and reads none."""
        with _unread(path) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        if shutil.disk_usage(path.parent).free < LIMITS.ledger_free_bytes:  # SQLite finds out only when it writes
            raise append_only.full(path, _NAME)

    @staticmethod
    def size(path: Path) -> int:
        """How many entries there are. Reads none."""
        with _unread(path) as database:
            last = database.execute("SELECT max(place) FROM entries").fetchone()[0]
        return 0 if last is None else int(last) + 1

    @staticmethod
    def denied(path: Path) -> frozenset[int]:
        """Versions that were ever denied. Reads no other entries."""
        with _unread(path) as database:
            rows = database.execute("SELECT entry FROM entries WHERE instr(entry, ?)", (_DENIAL,)).fetchall()
        with append_only.intact(path, _NAME):
            found = [parse_entry(bytes(data)) for (data,) in rows]
        return frozenset(entry.version for entry in found if isinstance(entry, Denial))

    @staticmethod
    def decisions(path: Path, party: str, most: int = -1) -> list[Enrolment | Revocation]:
        """What was decided of a party, the newest first; `most` of them, or all. Reads those alone: to open a log reads
        it all."""
        about, served = f'"party":"{party}"'.encode(), b'"kind":"served"'  # in what a person wrote, quotes are escaped
        with _unread(path) as database:
            rows = database.execute(
                "SELECT entry FROM entries WHERE instr(entry, ?) AND NOT instr(entry, ?) ORDER BY place DESC LIMIT ?",
                (about, served, most),
            ).fetchall()
        with append_only.intact(path, _NAME):
            found = [parse_entry(bytes(data)) for (data,) in rows]
        return [entry for entry in found if isinstance(entry, Enrolment | Revocation)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def append(self, entry: Entry) -> int:
        """Add an entry; it is on disk when this returns. Returns its place.

        Raises `RuleBroken` if it may not come next, `Unreachable` if it could not be written; nothing is added then.
        """
        with self._transaction():
            self._standing.check(entry)
            place = len(self._tree)
            self._database.execute("INSERT INTO entries VALUES (?, ?)", (place, entry.to_bytes()))
        return place

    def checkpoint(self, name: str, key: Ed25519PrivateKey) -> bytes:
        """Sign where the log stands. Raises `Rewritten` if it does not continue what was last signed."""
        with self._transaction():
            return self._sign_checkpoint(name, key)

    def prove(self, version: int, last_size: int, name: str, key: Ed25519PrivateKey) -> Proof:
        """A checkpoint signed now, with the proofs that lead to it; from a `last_size` beyond this log none does.

        Raises `NotLogged` for a release that nobody approved, `Rewritten` as `checkpoint` does.
        """
        with self._transaction():
            size = len(self._tree)
            if version not in self._approvals:
                raise NotLogged("no approval of this release", field="version", remedy="ask for a listed release")
            index, entry = self._approvals[version]
            return Proof(
                self._sign_checkpoint(name, key),
                self._tree.consistency(last_size, size) if last_size <= size else [],
                entry,
                index,
                self._tree.inclusion(index, size),
            )

    def is_denied(self, version: int) -> bool:
        with self._caught_up():
            return version in self._standing.denied

    def approvals(self) -> list[Approval]:
        """The last approval of each version that ever had one."""
        with self._caught_up():
            found = [parse_entry(data) for _, data in self._approvals.values()]
        return [entry for entry in found if isinstance(entry, Approval)]

    def approved(self) -> list[int]:
        """Versions that were ever approved, rising."""
        with self._caught_up():
            return sorted(self._standing.approved)

    def decided(self) -> list[int]:
        """Versions that were ever approved or denied, rising."""
        with self._caught_up():
            return sorted({*self._standing.approved, *self._standing.denied})

    def parties(self) -> dict[str, Enrolment]:
        """Who is let in now, and how, by the fingerprints of their keys."""
        with self._caught_up():
            return dict(self._standing.parties)

    def overrides(self, version: int, findings: str) -> frozenset[str]:
        """The different people who overrode these findings about a release."""
        with self._caught_up():
            return self._standing.overrides.get((version, findings), frozenset())

    def entries(self) -> list[bytes]:
        with self._lock, _guarded(self._path):
            return [bytes(row[0]) for row in self._database.execute("SELECT entry FROM entries ORDER BY place")]

    def continues(self, checkpoint: Checkpoint) -> bool:
        with self._caught_up():
            return checkpoint.begins(self._tree)

    def witness_key(self, party: str) -> str | None:
        """The key (hex) with which a party countersigned first."""
        with self._lock, _guarded(self._path):
            row = self._database.execute("SELECT key FROM countersigned WHERE party = ?", (party,)).fetchone()
            return row[0] if row else None

    def keep_countersigned(self, found: Countersigned) -> None:
        """Keep a verified countersignature in place of the one its party gave before."""
        with self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO countersigned VALUES (?, ?, ?)", (found.party, found.key, found.note.encode())
            )

    def countersigned(self) -> list[Countersigned]:
        with self._lock, _guarded(self._path):
            rows = self._database.execute("SELECT party, key, note FROM countersigned ORDER BY party").fetchall()
        with append_only.intact(self._path, _NAME):
            return [Countersigned(party=party, key=key, note=bytes(note).decode()) for party, key, note in rows]

    def _sign_checkpoint(self, name: str, key: Ed25519PrivateKey) -> bytes:
        row = self._database.execute("SELECT note FROM issued ORDER BY size DESC LIMIT 1").fetchone()
        with append_only.intact(self._path, _NAME):
            last = None if row is None else Checkpoint.from_note(bytes(row[0]))
        if last is not None and not last.begins(self._tree):
            raise Rewritten(
                "entries that were signed for are missing or changed",
                field=str(self._path),
                remedy="restore the log from its backup and find out who changed it",
            )
        note = Checkpoint(name, len(self._tree), self._tree.root()).signed(key)
        if row is None or bytes(row[0]) != note:
            self._database.execute("INSERT OR REPLACE INTO issued VALUES (?, ?)", (len(self._tree), note))
        return note

    def _catch_up(self) -> None:
        """Take in what this or another process has committed since."""
        rows = self._database.execute(
            "SELECT place, entry FROM entries WHERE place >= ? ORDER BY place", (len(self._tree),)
        )
        for place, raw in rows.fetchall():
            if place != len(self._tree):
                raise Rewritten("an entry is missing", field=str(self._path), remedy="restore it from its backup")
            with append_only.intact(self._path, _NAME):
                entry = parse_entry(data := bytes(raw))
            self._standing.admit(entry)
            if isinstance(entry, Approval):
                self._approvals[entry.version] = (place, data)
            self._tree.append(data)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it on disk, or none of it, with the newest entries known."""
        with self._lock, _guarded(self._path):
            with append_only.transaction(self._database):
                self._catch_up()
                yield
            self._catch_up()

    @contextmanager
    def _caught_up(self) -> Iterator[None]:
        with self._lock, _guarded(self._path):
            self._catch_up()
            yield


@contextmanager
def _unread(path: Path) -> Iterator[sqlite3.Connection]:
    """The log, of which no entry has been read; never a new one."""
    append_only.check_there(path, _NAME)
    there = f"{path.resolve().as_uri()}?mode=rw"
    with _guarded(path), closing(sqlite3.connect(there, uri=True, timeout=LIMITS.ledger_wait_seconds)) as database:
        yield database


def _guarded(path: Path) -> AbstractContextManager[None]:
    return append_only.guarded(path, _NAME)
