"""The rules by which a consumer trusts a release. Pure: bytes and what was last seen in, verified values out.

Those for roots and for freshness are in the modules of that name. Order matters: length before digest, digest and
signature before parsing, parsing before use. After The Update Framework, specification 1.0 section 5: root, then
freshness, then manifest, then artefacts; then the egress log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from pydantic import Field

from protocol.artefacts import PAYLOAD, Artefact
from protocol.canonical_json import HEX, LARGEST_EXACT, LAST_VERSION, Document, Moment, Sha256
from protocol.checkpoint import Checkpoint, origin, verify_checkpoint
from protocol.entry import Approval, parse_entry
from protocol.freshness import Freshness
from protocol.manifest import Digest, Manifest
from protocol.merkle import EMPTY, verify_consistency, verify_inclusion
from protocol.refusals import (
    AGAIN,
    ASK_OWNER,
    CLOCK,
    EndlessData,
    Equivocation,
    Expired,
    FastForward,
    MixAndMatch,
    NotLogged,
    Rollback,
    UnderThreshold,
    WrongDigest,
    WrongLength,
    WrongNode,
)
from protocol.root import KeyRole, Root, SignedRoot
from protocol.signing import Kind
from shared.errors import BadInput, PolicyRefusal, VerificationFailure
from shared.limits import LIMITS


class LastSeen(Document):
    """The highest of everything a consumer has accepted, kept in one file so that it changes as a whole.

    `roots` are those that were followed, from the invitation's to the newest, so that anyone who holds the invitation
    can follow them again; versions are 0, texts empty, before the first.
    """

    what = "last_seen.json"
    most_bytes = LIMITS.roots_followed * LIMITS.manifest_bytes

    roots: tuple[SignedRoot, ...] = Field(min_length=1, max_length=LIMITS.roots_followed)
    freshness: Moment = 0
    release: int = Field(default=0, ge=0, le=LAST_VERSION)
    manifest_sha256: str = Field(default="", pattern=rf"{HEX}|^$")
    checkpoint: str = Field(default="", max_length=LIMITS.note_bytes)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `BadInput`: a study wrote it itself, so no fetch and no owner can mend it."""
        try:
            seen = super().from_bytes(data)
            seen.trusted_root()
            seen.logged()
        except VerificationFailure as error:
            raise BadInput(
                "is damaged, or of an older version of this program",
                field=cls.what,
                remedy="restore it from a backup, or start a new study",
            ) from error
        return seen

    def trusted_root(self) -> Root:
        """The newest."""
        return Root.from_bytes(self.roots[-1].document.encode())

    def logged(self) -> Checkpoint:
        """The log last seen, an empty one before the first."""
        if not self.checkpoint:
            return Checkpoint(origin(self.trusted_root().node), 0, EMPTY)
        return Checkpoint.from_note(self.checkpoint.encode())

    def after_rotation(self, document: bytes, signatures: bytes) -> LastSeen:
        """The same under a new, verified root. Keys that were replaced may have been made to sign absurdly high
        versions, so what they signed is no longer held against the owner (TUF 5.3.11). Raises `EndlessData` for one
        more root than `LIMITS.roots_followed`."""
        if len(self.roots) == LIMITS.roots_followed:  # one more could be written but never be read again
            raise EndlessData(
                "more roots than a study follows", field="root", remedy="start a new study with a new invitation"
            )
        old, new = self.trusted_root(), Root.from_bytes(document)
        signed = SignedRoot(document=document.decode(), signatures=signatures.decode())
        change: dict[str, object] = {"roots": (*self.roots, signed)}
        if old.roles[KeyRole.FRESHNESS] != new.roles[KeyRole.FRESHNESS]:
            change["freshness"] = 0
        if old.roles[KeyRole.RELEASE] != new.roles[KeyRole.RELEASE]:
            change |= {"release": 0, "manifest_sha256": ""}
        return self.model_copy(update=change)


@dataclass(frozen=True)
class TrustedRelease:
    """A manifest and the artefacts it names that the reader may have, all verified."""

    manifest: Manifest
    artefacts: Mapping[Artefact, bytes] = field(repr=False)


class LogProof(Document):
    """That a release's approval is in the log under a checkpoint: the entry, its index and its audit path (hex)."""

    what = "log proof"

    checkpoint: str = Field(max_length=LIMITS.note_bytes)
    approval: str = Field(max_length=LIMITS.entry_bytes)
    index: int = Field(ge=0, le=LARGEST_EXACT)
    inclusion: tuple[Sha256, ...] = Field(max_length=LIMITS.proof_hashes)

    @classmethod
    def of(cls, checkpoint: bytes, approval: bytes, index: int, inclusion: Iterable[bytes]) -> Self:
        """From foreign parts. Raises a `VerificationFailure`."""
        try:
            return cls(
                checkpoint=checkpoint.decode(),
                approval=approval.decode(),
                index=index,
                inclusion=tuple(each.hex() for each in inclusion),
            )
        except ValueError:
            raise NotLogged("not a proof of the log", field="log", remedy=AGAIN) from None

    def made_under(self, roots: Sequence[Root]) -> Root:
        """The newest of these roots whose log keys signed the checkpoint. Raises `UnderThreshold` if there is none,
        another `VerificationFailure` for a note that is not of this log."""
        for root in reversed(roots):
            with suppress(UnderThreshold):
                verify_checkpoint(root, self.checkpoint.encode())
                return root
        raise UnderThreshold("not signed by the log's keys of any root since the invitation", field="log", remedy=AGAIN)


def choose_version(freshness: Freshness, last_seen: LastSeen, asked: int | None) -> int:
    """The release that was asked for, the newest if None.

    Raises `PolicyRefusal` where what the study holds was recalled and none is newer, `BadInput` for a release that is
    older than that or that the owner does not list.
    """
    listed = [each.version for each in freshness.releases]
    newest, held = max(listed, default=0), last_seen.release
    if newest < held:
        raise PolicyRefusal(
            f"the owner no longer serves release {held}, which this study holds, nor a newer one: it was recalled or "
            "has ended",
            field="version",
            remedy="ask the owner, by telephone, whether what was made from it may be used",
        )
    if not newest:
        raise BadInput("the owner serves no release", field="version", remedy="ask the owner to approve one")
    if asked is None:
        return newest
    if asked < held:
        raise BadInput(
            f"this study holds release {held}, and goes back to no older one",
            field="--version",
            remedy="leave it out, or fetch the older release into a new study",
        )
    if asked not in listed:
        there = ", ".join(str(version) for version in listed if version >= held)
        raise BadInput(
            f"the owner serves no release {asked}", field="--version", remedy=f"give one that it serves: {there}"
        )
    return asked


def verify_manifest(
    root: Root, manifest: bytes, signatures: bytes, *, version: int, last_seen: LastSeen, now: int
) -> Manifest:
    """Verify a manifest at time `now` (seconds since 1970-01-01 UTC). Raises a `VerificationFailure`."""
    root.check(KeyRole.RELEASE, Kind.MANIFEST, manifest, signatures)
    found = Manifest.from_bytes(manifest)
    if found.node != root.node or found.version != version:
        raise WrongNode("not the release that was asked for", field="manifest", remedy=AGAIN)
    if found.has_expired(now):
        raise Expired("the release has expired", field="manifest", remedy="ask the owner for a new release")
    if found.is_from_the_future(now):
        raise Expired("the release is from the future", field="manifest", remedy=CLOCK)
    if found.version < last_seen.release:
        raise Rollback("older than a release already seen", field="manifest", remedy=ASK_OWNER)
    if last_seen.release and found.version > last_seen.release + LIMITS.version_step:
        raise FastForward("a version far above the last one seen", field="manifest", remedy=ASK_OWNER)
    if found.version == last_seen.release and found.digest != last_seen.manifest_sha256:
        raise Equivocation(
            "differs from the release already seen under its version", field="manifest", remedy=ASK_OWNER
        )
    return found


def _verify_artefact(manifest: Manifest, kind: Artefact, data: bytes) -> bytes:
    """Return `data` if it is exactly what the manifest names."""
    expected = manifest.artefacts[kind]
    if len(data) > expected.length:
        raise EndlessData("more bytes than the manifest says", field=kind, remedy=AGAIN)
    if len(data) < expected.length:
        raise WrongLength("fewer bytes than the manifest says", field=kind, remedy=AGAIN)
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise WrongDigest("not the bytes that were signed", field=kind, remedy=AGAIN)
    return data


def verify_release(
    manifest: Manifest, artefacts: Mapping[Artefact, bytes], kinds: Collection[Artefact] = PAYLOAD
) -> TrustedRelease:
    """Verify the artefacts against a verified manifest: all four, or those that the role of the reader may have.

    Raises a `VerificationFailure` for one that is missing, too many, of another length or other bytes.
    """
    if set(artefacts) != set(kinds):
        raise WrongLength("the release is not complete", field="artefacts", remedy=AGAIN)
    return TrustedRelease(manifest, {kind: _verify_artefact(manifest, kind, artefacts[kind]) for kind in kinds})


def verify_growth(root: Root, last_seen: LastSeen, note: bytes, consistency: list[bytes]) -> None:
    """Raises a `VerificationFailure` unless the log's new checkpoint is proved to continue the one last seen."""
    last, found = last_seen.logged(), verify_checkpoint(root, note)
    verify_consistency(last.size, last.root_hash, found.size, found.root_hash, consistency)


def verify_logged(root: Root, manifest: Manifest, proof: LogProof) -> Approval:
    """Raises a `VerificationFailure` unless a person's approval of exactly this manifest is in the log."""
    checkpoint = verify_checkpoint(root, proof.checkpoint.encode())
    entry = proof.approval.encode()
    path = [bytes.fromhex(each) for each in proof.inclusion]
    verify_inclusion(entry, proof.index, checkpoint.size, checkpoint.root_hash, path)
    found = parse_entry(entry)
    if not isinstance(found, Approval):
        raise NotLogged("the log entry is no approval", field="log", remedy=ASK_OWNER)
    if (found.version, found.policy_id, found.manifest, found.artefacts) != (
        manifest.version,
        manifest.policy_id,
        Digest.of(manifest.to_bytes()),
        manifest.artefacts,
    ):
        raise MixAndMatch("the approval in the log is of another release", field="log", remedy=ASK_OWNER)
    return found
