"""The entries of the egress log, and what may follow what: the policy that anyone can check from the log alone.

Every entry carries a random nonce, so that a hash in somebody's proof tells nothing of the entry under it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from protocol.access import PartyRole, may_read
from protocol.artefacts import Artefact
from protocol.canonical_json import LARGEST_EXACT, Moment, Sha256, Version, encode, parse
from protocol.identity import NAME_BYTES
from protocol.manifest import Digest
from protocol.refusals import RuleBroken
from shared.frozen import Frozen
from shared.limits import LIMITS
from shared.printable import PRINTABLE
from shared.schema import PrintableName

Reason = Annotated[str, Field(min_length=1, max_length=LIMITS.reason_characters), PRINTABLE]


class _Entry(Frozen):
    """`at` is in seconds since 1970-01-01 UTC; `nonce` is 16 random bytes, hex."""

    format: Literal[1] = 1
    at: Moment
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$")

    def to_bytes(self) -> bytes:
        return encode(self)


class Approval(_Entry):
    """A named person let a release out, under a policy. `records` is how many it was made from, as on its card."""

    kind: Literal["approval"] = "approval"
    by: PrintableName
    version: Version
    manifest: Digest
    policy_id: Sha256
    artefacts: dict[Artefact, Digest]
    records: int = Field(ge=0, le=LARGEST_EXACT)


class Denial(_Entry):
    """A named person took a release out, or never let it out."""

    kind: Literal["denial"] = "denial"
    by: PrintableName
    version: Version
    reason: Reason


class Override(_Entry):
    """A named person lets a release out over what attacks found; it takes two. `findings`: digest of that, which stays
    with the owner."""

    kind: Literal["override"] = "override"
    by: PrintableName
    version: Version
    findings: Sha256
    reason: Reason

    @property
    def person(self) -> str:
        """The name as it tells people apart: case and spacing do not make another person."""
        return " ".join(self.by.split()).casefold()


class Enrolment(_Entry):
    """A named person let a party in. `party` is the fingerprint of its key."""

    kind: Literal["enrolment"] = "enrolment"
    by: PrintableName
    party: Sha256
    name: Annotated[str, Field(max_length=NAME_BYTES), PRINTABLE]
    role: PartyRole


class Revocation(_Entry):
    """A named person turned a party away, for now or from now on."""

    kind: Literal["revocation"] = "revocation"
    by: PrintableName
    party: Sha256


class Served(_Entry):
    """`length` bytes, from `offset`, of an artefact of a release, granted to a party; a stream cut short sent fewer."""

    kind: Literal["served"] = "served"
    party: Sha256
    version: Version
    artefact: Artefact
    sha256: Sha256
    offset: int = Field(ge=0, le=LIMITS.artefact_bytes)
    length: int = Field(ge=1, le=LIMITS.artefact_bytes)


Entry = Approval | Denial | Override | Enrolment | Revocation | Served
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def parse_entry(data: bytes) -> Entry:
    """Parse foreign bytes. Raises a `VerificationFailure`."""
    return parse(_ENTRY, data, "log entry", LIMITS.entry_bytes)


@dataclass
class Standing:
    """Where releases and parties stand after the entries admitted so far.

    The owner asks `check` before it appends, an auditor while replaying: one rule, so a log that breaks it was
    not written by this software.
    """

    approved: dict[int, Approval] = field(default_factory=dict)
    served: set[int] = field(default_factory=set)
    denied: dict[int, Denial] = field(default_factory=dict)
    parties: dict[str, Enrolment] = field(default_factory=dict)
    overrides: dict[tuple[int, str], frozenset[str]] = field(default_factory=dict)
    """People by release and findings."""

    def check(self, entry: Entry) -> None:
        """Raises `RuleBroken` if `entry` may not come next."""
        match entry:
            case Approval():
                if entry.version in self.denied:
                    raise _broken("a denied release was approved")
                if entry.version in self.served and entry.manifest != self.approved[entry.version].manifest:
                    raise _broken("another release was approved under the version of one that was served")
            case Override():
                if entry.version in self.denied:
                    raise _broken("an attack on a denied release was overridden")
            case Served():
                self._check_served(entry)
            case _:
                pass

    def admit(self, entry: Entry) -> None:
        """Check, then take into account."""
        self.check(entry)
        match entry:
            case Approval():
                self.approved[entry.version] = entry
            case Denial():
                self.denied.setdefault(entry.version, entry)
            case Override():
                about = entry.version, entry.findings
                self.overrides[about] = self.overrides.get(about, frozenset()) | {entry.person}
            case Enrolment():
                self.parties[entry.party] = entry
            case Revocation():
                self.parties.pop(entry.party, None)
            case Served():
                self.served.add(entry.version)

    def _check_served(self, entry: Served) -> None:
        approval = self.approved.get(entry.version)
        party = self.parties.get(entry.party)
        if party is None or not may_read(party.role, entry.artefact):
            raise _broken("bytes went to a party that was not let in for them")
        if approval is None or entry.version in self.denied:
            raise _broken("bytes of a release went out that no person had approved")
        is_manifest = entry.artefact is Artefact.MANIFEST
        expected = approval.manifest if is_manifest else approval.artefacts.get(entry.artefact)
        if expected is None or entry.sha256 != expected.sha256 or entry.offset + entry.length > expected.length:
            raise _broken("other bytes went out than were approved")


def _broken(problem: str) -> RuleBroken:
    return RuleBroken(problem, field="log", remedy="stop serving, and find out who wrote this entry")
