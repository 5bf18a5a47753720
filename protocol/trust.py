"""Every rule by which a consumer trusts a release. Pure: bytes and what was last seen in, verified values out.

Order matters: length before digest, digest and signature before parsing, parsing before use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field

from protocol.artefacts import PAYLOAD, Artefact
from protocol.manifest import HEX, Manifest, Signature, check_signature
from shared.errors import VerificationFailure
from shared.limits import LIMITS
from shared.schema import Frozen, Name

CLOCK_SKEW_SECONDS = 300


class Expired(VerificationFailure):
    """The release's time is over, or has not come."""


class Rollback(VerificationFailure):
    """Older than what was already seen."""


class Equivocation(VerificationFailure):
    """The owner signed two different releases under one version."""


class WrongNode(VerificationFailure):
    """A release of another node, or of another version than asked for."""


class WrongLength(VerificationFailure):
    """More or fewer bytes than the manifest names."""


class WrongDigest(VerificationFailure):
    """Other bytes than the manifest names."""


class LastSeen(Frozen):
    """The highest release version a consumer accepted, and the digest of its manifest."""

    node: Name
    version: int = Field(ge=1)
    manifest_sha256: str = Field(pattern=HEX)

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        digest = hashlib.sha256(manifest.to_bytes()).hexdigest()
        return cls(node=manifest.node, version=manifest.version, manifest_sha256=digest)


@dataclass(frozen=True)
class TrustedRelease:
    """A manifest and the artefacts it names that the reader may have, all verified."""

    manifest: Manifest
    artefacts: Mapping[Artefact, bytes]


def verify_manifest(
    manifest: bytes,
    signature: bytes,
    *,
    key: Ed25519PublicKey,
    node: str,
    version: int,
    last_seen: LastSeen | None,
    now: int,
) -> Manifest:
    """Verify a manifest at time `now` (seconds since 1970-01-01 UTC). Raises a `VerificationFailure`."""
    if len(manifest) > LIMITS.manifest_bytes:
        raise WrongLength("more bytes than the limit allows", field="manifest", remedy=_AGAIN)
    check_signature(manifest, Signature.from_bytes(signature), key)
    found = Manifest.from_bytes(manifest)
    if found.node != node or found.version != version:
        raise WrongNode("not the release that was asked for", field="manifest", remedy=_AGAIN)
    if now >= found.expires:
        raise Expired("the release has expired", field="manifest", remedy="ask the owner for a new release")
    if found.created > now + CLOCK_SKEW_SECONDS:
        raise Expired("the release is from the future", field="manifest", remedy="set this machine's clock")
    if last_seen is not None:
        check_not_older(found, last_seen)
    return found


def check_not_older(manifest: Manifest, last_seen: LastSeen) -> None:
    """Versions only rise, and one version is one release."""
    seen = LastSeen.of(manifest)
    if seen.version < last_seen.version:
        raise Rollback("older than a release already seen", field="manifest", remedy=_OWNER)
    if seen.version == last_seen.version and seen.manifest_sha256 != last_seen.manifest_sha256:
        raise Equivocation("differs from the release already seen under its version", field="manifest", remedy=_OWNER)


def verify_artefact(manifest: Manifest, kind: Artefact, data: bytes) -> bytes:
    """Return `data` if it is exactly what the manifest names."""
    expected = manifest.artefacts[kind]
    if len(data) != expected.length:
        raise WrongLength("not as long as the manifest says", field=kind, remedy=_AGAIN)
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise WrongDigest("not the bytes that were signed", field=kind, remedy=_AGAIN)
    return data


def verify_release(
    manifest: Manifest, artefacts: Mapping[Artefact, bytes], kinds: Collection[Artefact] = PAYLOAD
) -> TrustedRelease:
    """Verify the artefacts against a verified manifest: all four, or those that the role of the reader may have."""
    if set(artefacts) != set(kinds):
        raise WrongLength("the release is not complete", field="artefacts", remedy=_AGAIN)
    return TrustedRelease(manifest, {kind: verify_artefact(manifest, kind, artefacts[kind]) for kind in kinds})


_AGAIN = "fetch again; if it stays so, tell the owner"
_OWNER = "do not use it; ask the owner why an old or different release is served"
