"""The budget's ledger: what was charged against ε, item by item, in SQLite, append-only.

A charge is on disk before the first noisy answer is drawn. A stop between the two leaves a charge without a result:
spent, never free. Processes that charge at the same time take turns, so the last ε is spent once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from data_owner import append_only
from data_owner.privacy.accounting import Guarantee, Query, affordable, guarantee
from data_owner.settings import PrivacySettings
from shared.errors import PolicyRefusal
from shared.limits import LIMITS

_NAME = "the budget's ledger"
_TABLES = """
CREATE TABLE charges (
    place INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, key TEXT NOT NULL, person TEXT NOT NULL,
    queries BLOB NOT NULL
) STRICT;
CREATE TABLE results (charge INTEGER PRIMARY KEY REFERENCES charges, sha256 TEXT NOT NULL) STRICT;
CREATE TRIGGER charges_keep BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER charges_stay BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER results_keep BEFORE UPDATE ON results BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER results_stay BEFORE DELETE ON results BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""
_QUERIES = TypeAdapter(tuple[Query, ...])

LEAST_PART = 0.1
"""Of an even share of the budget: less is what rounding left of it, or too little to draw anything from."""


@dataclass(frozen=True)
class Charge:
    """`key` says of which records and settings; `sha256` is of what was made, None if it never was."""

    place: int
    at: int
    key: str
    queries: tuple[Query, ...]
    sha256: str | None


class Budget:
    """The ledger of one node. Nothing is held open between calls."""

    def __init__(self, path: Path) -> None:
        """Raises `Unreachable` if the file is not there: a budget that vanished is never begun anew."""
        append_only.check_there(path, _NAME)
        self._path = path

    @classmethod
    def create(cls, path: Path) -> None:
        """Begin an empty ledger. Raises `BadInput` if there is one."""
        append_only.create(path, _TABLES, _NAME)

    def next_rho(self, settings: PrivacySettings) -> float:
        """The ρ that the next draw may cost: what is left of the budget, in equal parts over the draws that are left.

        Raises `PolicyRefusal` if no draw is left, or nothing for one.
        """
        charges = self.charges()
        before = [query for charge in charges for query in charge.queries]
        even = affordable(settings.epsilon, settings.delta, settings.draws)
        left = settings.draws - len(charges)
        rho = (even * settings.draws - sum(query.rho for query in before)) / left if left > 0 else 0.0
        if rho < LEAST_PART * even:
            raise _not_allowed(settings, before, f"in {len(charges)} of {settings.draws} draws")
        return rho

    def charge(self, queries: Sequence[Query], settings: PrivacySettings, key: str, now: int) -> int:
        """Charge for all of `queries`; they may be asked when this returns. Returns the charge's place.

        Raises `PolicyRefusal` if everything charged so far and these would pass ε, or was charged for another unit
        than these; nothing is charged then.
        """
        with self._transaction() as database:
            units = {row[0] for row in database.execute("SELECT person FROM charges")}
            if units - {settings.person or ""}:
                raise PolicyRefusal(
                    "what was charged before protects another unit, and the two do not add up",
                    field="privacy.person",
                    remedy="set it back, or begin a new node",
                )
            before = [query for charge in self._charges(database) for query in charge.queries]
            after = guarantee([*before, *queries], settings.delta)
            if after.epsilon > settings.epsilon:
                raise _not_allowed(settings, before, f"and this would make it {after.epsilon:.3f}")
            row = database.execute(
                "INSERT INTO charges (at, key, person, queries) VALUES (?, ?, ?, ?)",
                (now, key, settings.person or "", _QUERIES.dump_json(tuple(queries))),
            )
            assert row.lastrowid is not None
            return row.lastrowid

    def keep_result(self, charge: int, sha256: str) -> None:
        """Note what a charge has made. Raises `PolicyRefusal` if it has made something already."""
        with self._transaction() as database:
            if database.execute("SELECT 1 FROM results WHERE charge = ?", (charge,)).fetchone():
                raise PolicyRefusal("this charge was used already", field="privacy", remedy="charge again")
            database.execute("INSERT INTO results VALUES (?, ?)", (charge, sha256))

    def charges(self) -> list[Charge]:
        """Every charge, oldest first."""
        with self._transaction() as database:
            return self._charges(database)

    def made(self, key: str) -> dict[str, Charge]:
        """The charges under `key` that made something, by its SHA-256."""
        return {charge.sha256: charge for charge in self.charges() if charge.key == key and charge.sha256}

    def spent(self, delta: float) -> Guarantee:
        """What everything charged so far costs together."""
        return guarantee([query for charge in self.charges() for query in charge.queries], delta)

    def _charges(self, database: sqlite3.Connection) -> list[Charge]:
        rows = database.execute(
            "SELECT place, at, key, queries, sha256 FROM charges LEFT JOIN results ON charge = place ORDER BY place"
        )
        with append_only.intact(self._path, _NAME):
            return [Charge(place, at, key, _QUERIES.validate_json(raw), made) for place, at, key, raw, made in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it on disk, or none of it; one process at a time."""
        with (
            append_only.guarded(self._path, _NAME),
            closing(sqlite3.connect(self._path, timeout=LIMITS.ledger_wait_seconds, isolation_level=None)) as database,
        ):
            database.execute("PRAGMA synchronous = FULL")
            with append_only.transaction(database):
                yield database


def _not_allowed(settings: PrivacySettings, before: Sequence[Query], why: str) -> PolicyRefusal:
    spent = guarantee(before, settings.delta).epsilon
    return PolicyRefusal(
        f"the privacy budget does not allow it: ε {spent:.3f} of {settings.epsilon:g} is spent, {why}",
        field="privacy.epsilon",
        remedy="go on with what was made already, or let the people responsible raise epsilon and draws",
    )
