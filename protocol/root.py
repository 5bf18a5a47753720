"""The root document: which keys speak for a node, how many of them must agree, and how they are replaced.

After The Update Framework, specification 1.0 sections 4.3 and 5.3: a new root is accepted only one version at a
time, signed by the threshold of the root before it and by its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, model_validator

from protocol.canonical_json import HEX, Document, Moment, Sha256, Version
from protocol.refusals import (
    AGAIN,
    ASK_OWNER,
    DuplicateKey,
    EndlessData,
    Expired,
    FastForward,
    Rollback,
    UnderThreshold,
    WrongNode,
)
from protocol.signing import Kind, check_threshold
from shared.frozen import Frozen
from shared.limits import LIMITS
from shared.schema import PrintableName


class KeyRole(StrEnum):
    """Who may sign what. `root` names the others and is meant to be kept off every network."""

    ROOT = "root"
    RELEASE = "release"
    FRESHNESS = "freshness"
    LOG = "log"


class RoleKeys(Frozen):
    """The keys of a role, by key id, and how many of them must sign."""

    key_ids: tuple[Sha256, ...] = Field(min_length=1, max_length=LIMITS.signatures)
    threshold: int = Field(ge=1, le=LIMITS.signatures)

    @model_validator(mode="after")
    def _each_key_counts_once(self) -> Self:
        if len(set(self.key_ids)) != len(self.key_ids):
            raise DuplicateKey("a role names a key twice", field="root", remedy=ASK_OWNER)
        if self.threshold > len(self.key_ids):
            raise ValueError("a threshold is higher than the number of keys")
        return self


class Root(Document):
    """`keys`: raw Ed25519 public keys by their SHA-256, both in hex. `expires`: seconds since 1970-01-01 UTC."""

    what = "root"

    format: Literal[1] = 1
    node: PrintableName
    version: Version
    expires: Moment
    keys: dict[str, str] = Field(min_length=1, max_length=4 * LIMITS.signatures)
    roles: dict[KeyRole, RoleKeys]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if set(self.roles) != set(KeyRole):
            raise ValueError("roles must be exactly " + ", ".join(KeyRole))
        for identifier, key in self.keys.items():
            if not re.fullmatch(HEX, key):
                raise ValueError("a key is not 32 bytes in hex")
            if hashlib.sha256(bytes.fromhex(key)).hexdigest() != identifier:
                raise ValueError("a key id is not the digest of its key")
        if {identifier for role in self.roles.values() for identifier in role.key_ids} != set(self.keys):
            raise ValueError("keys and roles do not name the same keys")
        return self

    @property
    def last_day(self) -> str:
        """The day on which it ends, in UTC."""
        return f"{datetime.fromtimestamp(self.expires, UTC):%Y-%m-%d}"

    def public_keys(self, role: KeyRole) -> Mapping[str, Ed25519PublicKey]:
        return {
            identifier: Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.keys[identifier]))
            for identifier in self.roles[role].key_ids
        }

    def check(self, role: KeyRole, kind: Kind, document: bytes, signatures: bytes) -> None:
        """Raises a `VerificationFailure` unless the role's threshold signed exactly these bytes, within the limit."""
        if len(document) > LIMITS.manifest_bytes:  # before it is hashed
            raise EndlessData("more bytes than the limit allows", field=kind, remedy=AGAIN)
        check_threshold(kind, document, signatures, self.public_keys(role), self.roles[role].threshold)


class SignedRoot(Frozen):
    """A root document and its signatures, each as the text that was signed or sent."""

    document: str = Field(max_length=LIMITS.manifest_bytes)
    signatures: str = Field(max_length=LIMITS.manifest_bytes)


def anchor(document: bytes, signatures: bytes) -> Root:
    """A root that arrived by a safe way. Raises a `VerificationFailure` unless its own threshold signed it."""
    root = Root.from_bytes(document)
    root.check(KeyRole.ROOT, Kind.ROOT, document, signatures)
    return root


def rotate(trusted: Root, document: bytes, signatures: bytes) -> Root:
    """The next root. Raises a `VerificationFailure` unless it is one version up and signed by the old and the new
    thresholds (TUF 5.3.4 and 5.3.5)."""
    trusted.check(KeyRole.ROOT, Kind.ROOT, document, signatures)
    root = Root.from_bytes(document)
    root.check(KeyRole.ROOT, Kind.ROOT, document, signatures)
    if root.node != trusted.node:
        raise WrongNode("the root of another node", field="root", remedy=ASK_OWNER)
    if root.version <= trusted.version:
        raise Rollback("not newer than the root that is trusted", field="root", remedy=ASK_OWNER)
    if root.version != trusted.version + 1:
        raise FastForward("skips a version: roots are followed one by one", field="root", remedy=ASK_OWNER)
    return root


def follow(trusted: Root, chain: Sequence[SignedRoot]) -> tuple[Root, ...]:
    """The roots from the trusted one, which must be in the chain, to its last, each accepted by the one before.

    Raises a `VerificationFailure` where one is not.
    """
    places = [place for place, each in enumerate(chain) if each.document.encode() == trusted.to_bytes()]
    if not places:
        raise UnderThreshold(
            "the roots do not lead from the one that is trusted",
            field="root",
            remedy="use the invitation that the owner handed over by a safe way",
        )
    roots = [trusted]
    for each in chain[places[0] + 1 :]:
        roots.append(rotate(roots[-1], each.document.encode(), each.signatures.encode()))
    return tuple(roots)


def check_in_date(root: Root, now: int) -> None:
    """Raises `Expired` at `now`, seconds since 1970-01-01 UTC. Only a chain's last root has to be in date (TUF
    5.3.10)."""
    if now >= root.expires:
        raise Expired("the owner's root has expired", field="root", remedy="ask the owner to sign a new root")
