"""The freshness statement: what the owner serves at this moment, signed for a day at most.

It does what timestamp and snapshot do in The Update Framework (specification 1.0 sections 5.4 and 5.5) in one
document, as a release is small: an old state cannot be shown as the present one, nor parts of two be mixed.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from protocol.canonical_json import Document, Moment, Sha256, Version
from protocol.refusals import AGAIN, ASK_OWNER, CLOCK, FastForward, Freeze, MixAndMatch, Rollback, WrongNode
from protocol.root import KeyRole, Root
from protocol.signing import Kind
from shared.frozen import Frozen
from shared.limits import LIMITS
from shared.schema import PrintableName


class Listed(Frozen):
    """A release that may be fetched, and the digest of its manifest."""

    version: Version
    manifest_sha256: Sha256


class Freshness(Document):
    """`version` is the second it was signed in, UTC, or one above the last where that is not earlier: it rises without
    a counter that could be lost or raced. `expires` is in seconds since 1970-01-01 UTC."""

    what = "freshness"

    format: Literal[1] = 1
    node: PrintableName
    version: Moment = Field(ge=1)
    expires: Moment
    root_version: Version
    releases: tuple[Listed, ...] = Field(max_length=LIMITS.releases_listed)

    @model_validator(mode="after")
    def _rises_and_is_short_lived(self) -> Self:
        if any(a.version >= b.version for a, b in pairwise(self.releases)):
            raise ValueError("releases must rise by version")
        if not 0 < self.expires - self.version <= LIMITS.freshness_seconds:
            raise ValueError("expires must follow version by a day at most")
        return self

    def check_listed(self, version: int, manifest: bytes) -> None:
        """Raises `MixAndMatch` unless exactly these manifest bytes are listed under `version`."""
        if Listed(version=version, manifest_sha256=hashlib.sha256(manifest).hexdigest()) not in self.releases:
            raise MixAndMatch("not the release that the owner lists now", field="manifest", remedy=ASK_OWNER)


def verify_freshness(root: Root, document: bytes, signatures: bytes, *, last_version: int, now: int) -> Freshness:
    """Verify a statement at time `now`, seconds since 1970-01-01 UTC. `last_version` is the highest one seen, 0 if
    none.

    Raises a `VerificationFailure` unless it is signed, in date and newer.
    """
    root.check(KeyRole.FRESHNESS, Kind.FRESHNESS, document, signatures)
    found = Freshness.from_bytes(document)
    if found.node != root.node:
        raise WrongNode("the statement of another node", field="freshness", remedy=ASK_OWNER)
    if found.root_version != root.version:
        remedy = AGAIN if found.root_version > root.version else ASK_OWNER  # a root may be rotated between two calls
        raise MixAndMatch("made under another root than the newest shown", field="freshness", remedy=remedy)
    if found.version > now + LIMITS.clock_skew_seconds:
        raise FastForward("signed in the future", field="freshness", remedy=CLOCK)
    check_seen(last_version, now)
    if found.version < last_version:
        raise Rollback("older than a statement already seen", field="freshness", remedy=ASK_OWNER)
    if now >= found.expires:
        raise Freeze(
            "the newest statement has expired",
            field="freshness",
            remedy="check this machine's clock; then ask the owner whether it still serves",
        )
    return found


def check_seen(last_version: int, now: int) -> None:
    """Raises `FastForward` where the statement last seen is from the future: nothing signed at `now` can follow it."""
    if last_version > now + LIMITS.clock_skew_seconds:
        raise FastForward(
            "the statement last seen was signed in the future",
            field="freshness",
            remedy="check this machine's clock; if it is right, it and the owner's were ahead at the last fetch: "
            'ask the owner to renew the freshness key (see "A clock was ahead" in the runbook), then fetch again',
        )
