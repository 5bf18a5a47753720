"""The node's certificate authority, and the consumers a person has let in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from data_owner import roots
from data_owner.ledger import Ledger, new_entry
from data_owner.node import Node
from data_owner.people import named
from protocol import identity
from protocol.access import PartyRole
from protocol.canonical_json import HEX
from protocol.entry import Enrolment as Enrolled
from protocol.entry import Revocation
from protocol.invitation import Invitation
from protocol.root import anchor
from shared import folder
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure
from shared.frozen import Frozen, explained
from shared.limits import LIMITS

AUTHORITY_KEY, AUTHORITY = "authority.key", "authority.crt"
SERVER_KEY, SERVER = "server.key", "server.crt"
NEW_NODE = "make a new node and invite everyone anew: see Rotation in the runbook"
_RESTORE = "restore the node's keys folder from its backup"


class Decision(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"


class Enrolment(Frozen):
    """One consumer: the name it asked for, its key's fingerprint and what was decided, by whom and when."""

    fingerprint: str
    name: str
    decision: Decision
    role: PartyRole | None = None
    by: str = ""
    at: int
    address: str = ""
    """Where it called from, as `access_control.place` says."""


@dataclass(frozen=True)
class Decided:
    """What a decision made of an enrolment. `changed` is False where log and file said so already: neither was added
    to or written."""

    enrolment: Enrolment
    changed: bool


def create_keys(node: Node, name: str, now: datetime) -> None:
    """Make the authority and the server certificate. Each file is readable by the owner only."""
    folder.make(node.keys, folder.PRIVATE_FOLDER)
    authority_key, server_key = identity.new_key(), identity.new_key()
    authority = identity.new_authority(authority_key, name, now)
    server = identity.issue_server_certificate(server_key, authority_key, authority, now)
    for path, data in {
        AUTHORITY_KEY: authority_key,
        AUTHORITY: authority,
        SERVER_KEY: server_key,
        SERVER: server,
    }.items():
        folder.write(node.keys / path, data, folder.PRIVATE)


def renew_server_certificate(node: Node, now: datetime) -> bytes:
    """A fresh certificate for the server key: they are short-lived."""
    certificate = identity.issue_server_certificate(key_file(node, SERVER_KEY), *issuer(node), now)
    folder.write(node.keys / SERVER, certificate, folder.PRIVATE)
    return certificate


def server_certificate(node: Node, now: datetime) -> bytes:
    """The server's certificate; a fresh one once its last days have begun, or where what is there is of no use."""
    with suppress(Unreachable):
        _, certificate = _pair(node, SERVER_KEY, SERVER)
        if not identity.needs_renewal(certificate, now):
            return certificate
    return renew_server_certificate(node, now)


def issuer(node: Node) -> tuple[bytes, bytes]:
    """The authority's key and certificate. Raises `Unreachable` unless both are there and belong together."""
    return _pair(node, AUTHORITY_KEY, AUTHORITY)


def check_in_date(node: Node, now: datetime) -> datetime:
    """When the authority ends. Raises `PolicyRefusal` outside of its time, when TLS refuses everyone it let in."""
    certificate = key_file(node, AUTHORITY)
    begins, ends = identity.certificate_begins(certificate), identity.certificate_expires(certificate)
    remedy = "set the clock if it is wrong now; else"
    if now < begins:
        problem, remedy = f"not valid before {begins:%Y-%m-%d %H:%M} UTC", f"{remedy} wait until then, or {NEW_NODE}"
        raise PolicyRefusal(problem, field="authority", remedy=remedy)
    if now >= ends:
        raise PolicyRefusal(f"ended {ends:%Y-%m-%d %H:%M} UTC", field="authority", remedy=f"{remedy} {NEW_NODE}")
    return ends


def key_file(node: Node, name: str) -> bytes:
    """A TLS key of the node, or a certificate. Raises `Unreachable` if it is not there, or is damaged."""
    path = node.keys / name
    data = folder.read(path, _RESTORE)
    parse = identity.key_fingerprint if path.suffix == ".key" else identity.certificate_fingerprint
    try:
        parse(data)
    except VerificationFailure as error:
        raise Unreachable(error.problem, field=str(path), remedy=_RESTORE) from error
    return data


def _pair(node: Node, key: str, certificate: str) -> tuple[bytes, bytes]:
    private, public = key_file(node, key), key_file(node, certificate)
    if identity.key_fingerprint(private) != identity.certificate_fingerprint(public):
        raise Unreachable("not of the key beside it", field=str(node.keys / certificate), remedy=_RESTORE)
    return private, public


def write_invitation(node: Node, address: str, enrolment_address: str) -> Invitation:
    """Write invitation.json for these addresses, under the name that the root was signed for."""
    root, root_signatures = roots.chain(node)[-1]
    with explained("--host-name", "give a plain name or an address"):
        invitation = Invitation(
            node=anchor(root, root_signatures).node,
            address=address,
            enrolment_address=enrolment_address,
            certificate_authority=key_file(node, AUTHORITY).decode(),
            root=root.decode(),
            root_signatures=root_signatures.decode(),
        )
    folder.write(node.invitation, invitation.to_bytes())
    return invitation


def receive(node: Node, request: bytes, now: datetime, address: str = "") -> tuple[Decision, bytes]:
    """Take in a request, once; returns what was decided so far and the certificate when approved.

    An approved key gets a fresh certificate while its approval stands in the egress log, which outranks its file; a
    request that nobody decides on lapses. Raises `VerificationFailure` for a bad request and `PolicyRefusal` when too
    many are waiting, in all or from `address`.
    """
    fingerprint = identity.request_fingerprint(request)
    known = _path(node, fingerprint)
    if known.is_file():
        entry = _read(known)
        if entry.decision is not Decision.APPROVED:
            return entry.decision, b""
        logged = next(iter(Ledger.decisions(node.ledger, fingerprint, 1)), None)
        if not isinstance(logged, Enrolled):  # withdrawn: the file is an older one
            return Decision.DENIED, b""
        return entry.decision, identity.issue_client_certificate(
            request,
            logged.name,  # the one a person approved, whatever is asked now
            *issuer(node),
            now,
            logged.role,
        )
    waiting, remedy = _waiting(node, now), "ask the owner to decide on those who wait"
    if len(waiting) >= LIMITS.pending_enrolments:
        raise PolicyRefusal("too many requests are waiting", field="enrol", remedy=remedy)
    if address and sum(entry.address == address for entry in waiting) >= LIMITS.pending_enrolments_an_address:
        raise PolicyRefusal("too many requests from this address are waiting", field="enrol", remedy=remedy)
    entry = Enrolment(
        fingerprint=fingerprint,
        name=identity.requested_name(request),
        decision=Decision.PENDING,
        at=int(now.timestamp()),
        address=address,
    )
    folder.write(known, entry.model_dump_json(indent=2).encode())
    return Decision.PENDING, b""


def _waiting(node: Node, now: datetime) -> list[Enrolment]:
    """Who waits for a person, once those that waited too long are forgotten."""
    since = now.timestamp() - LIMITS.pending_days * 86_400
    with folder.locked(node.lock):
        asked = pending(node)
        for entry in asked:
            if entry.at < since:
                _path(node, entry.fingerprint).unlink()
    return [entry for entry in asked if entry.at >= since]


def pending(node: Node) -> list[Enrolment]:
    """Who waits for a person, oldest first."""
    return [entry for entry in enrolments(node) if entry.decision is Decision.PENDING]


def enrolments(node: Node) -> list[Enrolment]:
    """Everyone who asked, oldest first, but for those that are `damaged`."""
    found = [entry for entry in _all(node) if isinstance(entry, Enrolment)]
    return sorted(found, key=lambda entry: (entry.at, entry.fingerprint))


def damaged(node: Node) -> list[Unreachable]:
    """What cannot be read of who asked: each names its file and the remedy."""
    return [entry for entry in _all(node) if isinstance(entry, Unreachable)]


def faults(node: Node) -> list[Unreachable]:
    """What is `damaged` of who asked, and where the egress log, which outranks the files, says otherwise: each names
    its file and the remedy."""
    entries = [*_all(node)]
    found = {entry.fingerprint: entry for entry in entries if isinstance(entry, Enrolment)}
    with Ledger(node.ledger) as log:
        logged = log.parties()
    differing = []
    for party in sorted({*found, *logged}):
        entry, path = found.get(party), _path(node, party)
        if entry is not None:
            kept = entry.role if entry.decision is Decision.APPROVED else None
            role = logged[party].role if party in logged else None
            if kept is not role:
                problem = f"says {kept or 'not let in'}, the egress log says {role or 'not let in'}"
                before = _logged_role(Ledger.decisions(node.ledger, party)) or kept
                remedy = f"approve that key again with --role {before}, or deny it"
                differing.append(Unreachable(problem, field=str(path), remedy=remedy))
        elif not path.exists():
            problem = "is not there, the egress log has that key let in"
            remedy = "restore it from its backup, or deny that key"
            differing.append(Unreachable(problem, field=str(path), remedy=remedy))
    return [*(entry for entry in entries if isinstance(entry, Unreachable)), *differing]


def role(node: Node, fingerprint: str) -> PartyRole | None:
    """The role in which the holder of this key may call now; None if unknown, not approved or withdrawn.

    Raises `Unreachable` where that cannot be read, also because the node is not where it was.
    """
    if not re.fullmatch(HEX, fingerprint):  # a caller without a key
        return None
    try:
        entry = _read(_path(node, fingerprint))
    except Unreachable as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        if not node.settings.is_file():
            remedy = "mount it, or put it back where it was"
            raise Unreachable("the node is not there", field=str(node.folder), remedy=remedy) from error
        return None
    return entry.role if entry.decision is Decision.APPROVED else None


def decide(
    node: Node, fingerprint: str, decision: Decision, *, by: str, now: datetime, role: PartyRole | None = None
) -> Decided:
    """Approve or deny, by a named person, the one request whose fingerprint starts as given (16 digits at least).

    Without a `role` a key keeps the one that the egress log last let it in with; a new one is an analyst's. Whom the
    log has let in can be denied though the file is damaged or gone: it is made anew. What is granted is logged first,
    what is withdrawn is withdrawn first: see `data_owner.ledger`. What both say already is not said again: certificates
    are made by `receive`, at each request, and need no new decision. Raises `BadInput`, and `Unreachable` for a request
    whose file is damaged.
    """
    person, at = named(by), int(now.timestamp())
    granted = decision is Decision.APPROVED
    with folder.locked(node.lock), Ledger(node.ledger) as log:
        logged = log.parties()
        # by their names: what is wrong with one file is not to stand in the way of a decision about another
        known = {*(() if granted else logged), *(path.stem for path in node.enrolments.glob("*.json"))}
        matching = [party for party in known if party.startswith(fingerprint.lower())]
        if len(fingerprint) < 16 or len(matching) != 1:
            raise BadInput(
                "no single request has this fingerprint",
                field="fingerprint",
                remedy="list the requests with `fair4free-owner enrol NODE` and give 16 digits or more",
            )
        party = matching[0]
        history = Ledger.decisions(node.ledger, party)
        asked = _asked(node, party, None if granted else logged.get(party))
        role = (role if granted else None) or _logged_role(history) or asked.role
        if granted:
            role = role or PartyRole.ANALYST
        # a denial that was stopped is in the file alone
        if (asked.decision, asked.role) == (decision, role) and _says(history, decision, role):
            return Decided(asked.model_copy(update={"by": history[0].by, "at": history[0].at}), changed=False)
        decided = asked.model_copy(update={"decision": decision, "role": role, "by": person, "at": at})
        entry = (
            new_entry(Enrolled, at=at, by=person, party=party, name=asked.name, role=role)
            if granted
            else new_entry(Revocation, at=at, by=person, party=party)
        )
        if granted:
            log.append(entry)
        folder.write(_path(node, party), decided.model_dump_json(indent=2).encode())
        if not granted:
            log.append(entry)
        return Decided(decided, changed=True)


def _logged_role(history: list[Enrolled | Revocation]) -> PartyRole | None:
    """The role in which a party was last let in, also if that was withdrawn since; None if it never was.

    `history`: its decisions, the newest first.
    """
    return next((each.role for each in history if isinstance(each, Enrolled)), None)


def _says(history: list[Enrolled | Revocation], decision: Decision, role: PartyRole | None) -> bool:
    """Whether the newest decision of the log about a party is this one."""
    last = next(iter(history), None)
    if decision is Decision.APPROVED:
        return isinstance(last, Enrolled) and last.role is role
    return isinstance(last, Revocation)


def _asked(node: Node, party: str, logged: Enrolled | None) -> Enrolment:
    """As its file says; where that cannot be read, as the log has it let in. Raises `Unreachable` where it has not."""
    try:
        return _read(_path(node, party))
    except Unreachable:
        if logged is None:
            raise
        return Enrolment(
            fingerprint=party,
            name=logged.name,
            decision=Decision.APPROVED,
            role=logged.role,
            by=logged.by,
            at=logged.at,
        )


def _all(node: Node) -> Iterator[Enrolment | Unreachable]:
    """Everyone who asked, or why it cannot be read."""
    for path in sorted(node.enrolments.glob("*.json")):
        try:
            yield _read(path)
        except Unreachable as error:
            yield error


def _read(path: Path) -> Enrolment:
    remedy = "restore it from its backup, or remove it and let that analyst enrol again"
    data = folder.read(path, remedy)
    with suppress(ValidationError):
        entry = Enrolment.model_validate_json(data)
        if entry.fingerprint == path.stem:
            return entry
    raise Unreachable("not the enrolment of that key", field=str(path), remedy=remedy)


def _path(node: Node, fingerprint: str) -> Path:
    return node.enrolments / f"{fingerprint}.json"
