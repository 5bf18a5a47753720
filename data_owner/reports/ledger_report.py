"""What left the owner, for a privacy officer: every byte by party, day and kind, and bytes per private record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from data_owner.release_status import OVERRIDES
from protocol.entry import Approval, Denial, Enrolment, Override, Revocation, Served
from protocol.ledger_file import VerifiedLedger
from shared.report import Cell, Level, Report, Section, Table, Verdict

TITLE = "What left"
"""How each page begins, by which a file is known for one."""


def totals(ledger: VerifiedLedger) -> dict[str, int]:
    """The facts at the head of the report, for a program."""
    return {
        "bytes_left": sum(entry.length for entry in ledger.entries if isinstance(entry, Served)),
        "releases_approved": len({entry.version for entry in ledger.entries if isinstance(entry, Approval)}),
        "releases_denied": len(ledger.standing.denied),
        "countersigning_parties": len(ledger.countersigned),
    }


def ledger_report(ledger: VerifiedLedger) -> Report:
    """Of a verified log. Bytes are of the five artefacts, counted before they were sent."""
    served = [entry for entry in ledger.entries if isinstance(entry, Served)]
    found = totals(ledger)
    names = {entry.party: entry.name for entry in ledger.entries if isinstance(entry, Enrolment)}
    released = _released(ledger, served)
    checkpoint = ledger.checkpoint
    return Report(
        title=f"{TITLE} {ledger.node}",
        subtitle=f"Egress log {checkpoint.origin}, {checkpoint.size:,} entries, tree hash {checkpoint.root_hash.hex()}",
        verdicts=(
            _wholeness(ledger),
            Verdict(
                "good",
                "Each logged byte was approved",
                "It belongs to a release that a named person approved, and went to a party that was let in.",
                f"{found['bytes_left']:,} B",
            ),
            Verdict("neutral", "Parties", "Who received any of it.", str(len({entry.party for entry in served}))),
            *_against_approval(ledger),
        ),
        facts=(
            ("Bytes logged as sent", f"{found['bytes_left']:,}"),
            ("Releases approved", str(found["releases_approved"])),
            ("Releases denied", str(found["releases_denied"])),
            ("Parties that countersigned", str(found["countersigning_parties"])),
        ),
        sections=(
            Section(
                "Bytes by party, day and kind",
                "Days are UTC. Bytes are counted before they are sent: where a transfer was cut, fewer left.",
                (Table(("party", "name", "day", "kind", "bytes"), _by_party_day_kind(served, names)),),
            ),
            Section(
                "Bytes per private record",
                "Each different byte is counted once, however often it was fetched. The average divides that by the "
                "number of records; it does not measure what the bytes tell of one.",
                (Table(("release", "records", "different bytes", "of them per record", "fetched bytes"), released),),
            ),
            Section(
                "Decisions",
                "Each by a named person, in order. Beside an approval stands how the SHA-256 of its policy begins.",
                (Table(("when (UTC)", "decision", "about", "by", "policy", "reason"), _decisions(ledger, names)),),
            ),
            Section(
                "Seen by others",
                "Parties whose countersignatures the owner holds. Their own fair4free verify STUDY --ledger proves "
                "that one is theirs: then the log was not rewritten below that size.",
                (
                    Table(
                        ("party", "entries seen", "when (UTC)"),
                        tuple((party, size, _moment(at)) for party, size, at in ledger.countersigned),
                    ),
                ),
            ),
        ),
    )


def _wholeness(ledger: VerifiedLedger) -> Verdict:
    """An owner can sign a log anew that leaves entries out: only what somebody else saw of it shows that."""
    if ledger.seen is None:
        text = "By the owner's own log, signed and in order, but not held to what an analyst saw: entries may have "
        text += "been left out. Write this page again with --seen and the last_seen.json of a study."
        return Verdict("caution", "Whether the log is whole", text, "not shown")
    size, of = ledger.seen.logged().size, ledger.checkpoint.size
    text = f"Signed, in order, and its first {size:,} entries are those that an analyst saw. "
    text += f"It approves release {ledger.seen.release} as they fetched it. " if ledger.seen.release else ""
    text += "For later entries there is the owner's own log alone." if size < of else ""
    level: Level = "good" if size == of else "neutral"
    return Verdict(level, "Whether the log is whole", text, f"{size:,} of {of:,} entries")


def _against_approval(ledger: VerifiedLedger) -> Iterable[Verdict]:
    """What was said against releases that were approved: that they may leave no more, or that attacks be overridden."""
    approved, denied = ledger.standing.approved, ledger.standing.denied
    recalled = [f"release {each}, by {denied[each].by}: {denied[each].reason}" for each in approved if each in denied]
    if recalled:
        yield Verdict("bad", "Denied since", f"{'; '.join(recalled)}. Who fetched it has it still.", str(len(recalled)))
    names = {(each.version, each.person): each.by for each in ledger.entries if isinstance(each, Override)}
    overridden = {
        version: ", ".join(sorted(names[version, person] for person in people))
        for (version, _), people in ledger.standing.overrides.items()
        if version in approved and len(people) >= OVERRIDES
    }
    if overridden:
        said = "; ".join(f"release {version}, by {people}" for version, people in overridden.items())
        text = f"{said}. Its card says whether it was approved over what attacks found."
        yield Verdict("bad", "Attacks overridden", text, str(len(overridden)))


def _by_party_day_kind(served: list[Served], names: dict[str, str]) -> tuple[tuple[Cell, ...], ...]:
    found: Counter[tuple[str, str, str]] = Counter()
    for entry in served:
        found[entry.party, _moment(entry.at)[:10], entry.artefact.value] += entry.length
    return tuple((party, names[party], day, kind, count) for (party, day, kind), count in sorted(found.items()))


def _released(ledger: VerifiedLedger, served: list[Served]) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[Cell, ...]] = []
    for version, approval in sorted(ledger.standing.approved.items()):
        left = [entry for entry in served if entry.version == version]
        different = ledger.different_bytes(version)
        per_record = round(different / approval.records, 2) if approval.records else None
        rows.append((version, approval.records, different, per_record, sum(entry.length for entry in left)))
    return tuple(rows)


def _decisions(ledger: VerifiedLedger, names: dict[str, str]) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[Cell, ...]] = []
    for entry in ledger.entries:
        match entry:
            case Approval() | Denial() | Override():
                about = f"release {entry.version}"
            case Enrolment() | Revocation():
                about = f"{entry.party} {names.get(entry.party, '')}".strip()
            case Served():
                continue
        reason = entry.reason if isinstance(entry, Denial | Override) else ""
        policy = entry.policy_id[:16] if isinstance(entry, Approval) else ""
        rows.append((_moment(entry.at), entry.kind, about, entry.by, policy, reason))
    return tuple(rows)


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
