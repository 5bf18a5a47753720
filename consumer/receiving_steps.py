"""The consumer's steps up to a verified release: enrol, fetch, verify. Nothing of a release is handed to torch, pandas
or scikit-learn before all of it is verified."""

from __future__ import annotations

from pathlib import Path

from consumer import enrolment, fetching
from consumer.enrolment import Enrolled
from consumer.study import Study
from protocol.canonical_json import LAST_VERSION
from protocol.ledger_file import LedgerFile, VerifiedLedger
from shared import folder
from shared.clock import now
from shared.errors import BadInput
from shared.progress import Progress, quiet


def enrol(
    path: Path | str, *, invitation: Path | str | None = None, name: str = "", wait_seconds: float = 0.0
) -> Enrolled:
    """Ask the owner to be let in, or collect the certificate once a person there has approved.

    Raises as `enrolment.enrol` does.
    """
    offered = None if invitation is None else Path(invitation)
    return enrolment.enrol(Study(Path(path)), offered, name or Path(path).resolve().name, wait_seconds)


def fetch(path: Path | str, *, version: int | None = None, progress: Progress = quiet) -> fetching.Fetched:
    """Fetch and verify a release, the newest unless named. Raises as `fetching.fetch` does."""
    if version is not None and not 1 <= version <= LAST_VERSION:
        raise BadInput("not a version", field="--version", remedy=f"give 1 to {LAST_VERSION:,}, or leave it out")
    return fetching.fetch(Study(Path(path)), version, now(), progress)


def verify(path: Path | str) -> fetching.Verified:
    """Verify the fetched release and its approval again, without a network.

    Raises `VerificationFailure` unless both are still what was signed, and in date.
    """
    return fetching.verify(Study(Path(path)), now())


def verify_ledger(path: Path | str, exported: Path | str) -> VerifiedLedger:
    """Verify a ledger that the owner exported, and that it continues what this study has seen.

    Raises `VerificationFailure` unless it does.
    """
    data = folder.read(Path(exported), "give the file the owner exported", LedgerFile.most_bytes)
    return fetching.verify_exported(Study(Path(path)), data)
