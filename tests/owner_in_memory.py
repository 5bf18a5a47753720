"""An owner in memory. Change one field, or one line of bytes on their way, and it says what it was made to say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import grpc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consumer import fetching
from consumer.fetching import Fetched
from consumer.study import Study
from protocol import access, identity
from protocol.artefacts import PAYLOAD, Artefact
from protocol.calls import ARTEFACT_KINDS
from protocol.checkpoint import Checkpoint, origin
from protocol.entry import Approval, Denial, Enrolment, Entry, Served
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.freshness import Freshness, Listed
from protocol.invitation import Invitation
from protocol.manifest import Digest, Manifest
from protocol.merkle import Tree
from protocol.root import KeyRole, RoleKeys, Root, SignedRoot
from protocol.signing import Kind, key_id, sign
from protocol.trust import LastSeen, TrustedRelease
from shared import folder

NOW = 1_800_000_000
POLICY = hashlib.sha256(b"policy").hexdigest()
ANALYST = ec.derive_private_key(1, ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
"""The analyst's key: the same in every process of the tests."""
PARTY = identity.key_fingerprint(ANALYST)
Edit = Callable[[bytes], bytes]


def key(name: str) -> Ed25519PrivateKey:
    """The same key for the same name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def root_of(
    keys: dict[KeyRole, list[Ed25519PrivateKey]],
    version: int = 1,
    threshold: int = 1,
    node: str = "hospital",
    expires: int = NOW + 10_000,
) -> Root:
    public = {role: [each.public_key() for each in held] for role, held in keys.items()}
    return Root(
        node=node,
        version=version,
        expires=expires,
        keys={key_id(each): each.public_bytes_raw().hex() for held in public.values() for each in held},
        roles={
            role: RoleKeys(
                key_ids=tuple(key_id(each) for each in held), threshold=threshold if role is KeyRole.ROOT else 1
            )
            for role, held in public.items()
        },
    )


KEYS = {role: [key(role)] for role in KeyRole}


@dataclass
class Owner:
    """`keys` is what the first root says, `signers` who really signs; `edits` change bytes on the wire by name."""

    keys: dict[KeyRole, list[Ed25519PrivateKey]] = field(default_factory=lambda: {**KEYS})
    signers: dict[KeyRole, list[Ed25519PrivateKey]] = field(default_factory=lambda: {**KEYS})
    roots: list[tuple[Root, list[Ed25519PrivateKey]]] = field(default_factory=list)
    """Later roots, with who signed them."""
    threshold: int = 1
    node: str = "hospital"
    version: int = 3
    created: int = NOW - 100
    expires: int = NOW + 1000
    root_expires: int = NOW + 10_000
    fresh_at: int = NOW - 10
    fresh_until: int = NOW + 500
    fresh_root: int | None = None
    listed: Manifest | None = None
    artefacts: dict[Artefact, bytes] = field(default_factory=lambda: {kind: kind.encode() * 9 for kind in PAYLOAD})
    log: list[Entry] | None = None
    edits: dict[str, Edit] = field(default_factory=dict)

    def first_root(self) -> Root:
        return root_of(self.keys, threshold=self.threshold, node=self.node, expires=self.root_expires)

    def manifest(self) -> Manifest:
        digests = {kind: Digest.of(data) for kind, data in self.artefacts.items()}
        return Manifest(
            node=self.node,
            version=self.version,
            created=self.created,
            expires=self.expires,
            schema_id=digests[Artefact.SCHEMA].sha256,
            policy_id=POLICY,
            privacy="no records leave",
            artefacts=digests,
        )

    def freshness(self) -> Freshness:
        manifest = self.listed or self.manifest()
        root = 1 + len(self.roots) if self.fresh_root is None else self.fresh_root
        return Freshness(
            node=self.node,
            version=self.fresh_at,
            expires=self.fresh_until,
            root_version=root,
            releases=(Listed(version=manifest.version, manifest_sha256=manifest.digest),),
        )

    def entries(self) -> list[Entry]:
        return self.log if self.log is not None else honest_log(self.manifest())

    def sent(self, name: str, data: bytes) -> bytes:
        return self.edits.get(name, bytes)(data)

    def signed(self, role: KeyRole, kind: Kind, document: bytes) -> tuple[bytes, bytes]:
        signatures = sign(kind, document, self.signers[role]).to_bytes()
        return self.sent(kind, document), self.sent(f"{kind} signatures", signatures)

    def checkpoint(self) -> bytes:
        tree = Tree(entry.to_bytes() for entry in self.entries())
        return self.sent(
            "checkpoint",
            Checkpoint(origin(self.node), len(tree), tree.root()).signed(self.signers[KeyRole.LOG][0]),
        )


def honest_log(manifest: Manifest, served: int = 0) -> list[Entry]:
    """A party let in, an older release denied, this one approved, and some of it served."""
    return [
        Enrolment(at=NOW - 90, nonce="00" * 16, by="Ada", party=PARTY, name="analyst", role=access.PartyRole.ANALYST),
        Denial(at=NOW - 80, nonce="11" * 16, by="Ada", version=1, reason="recalled"),
        Approval(
            at=NOW - 70,
            nonce="22" * 16,
            by="Ada",
            version=manifest.version,
            manifest=Digest.of(manifest.to_bytes()),
            policy_id=POLICY,
            artefacts=manifest.artefacts,
            records=600,
        ),
        *(
            Served(
                at=NOW - 60,
                nonce="33" * 16,
                party=PARTY,
                version=manifest.version,
                artefact=Artefact.CARD,
                sha256=manifest.artefacts[Artefact.CARD].sha256,
                offset=0,
                length=7,
            )
            for _ in range(served)
        ),
    ]


def trusting(owner: Owner | None = None) -> LastSeen:
    """What a consumer holds that was invited by an honest owner and has fetched nothing."""
    owner = owner or Owner()
    document = owner.first_root().to_bytes()
    signatures = sign(Kind.ROOT, document, owner.keys[KeyRole.ROOT]).to_bytes()
    return LastSeen(roots=(SignedRoot(document=document.decode(), signatures=signatures.decode()),))


@cache
def certificate(key: bytes = ANALYST) -> bytes:
    """An analyst's; no connection is made with it, but it says who she is and as what she may read."""
    owner, moment = identity.new_key(), datetime.now(UTC)
    request = identity.new_request(key, "analyst")
    issuer = identity.new_authority(owner, "hospital", moment)
    return identity.issue_client_certificate(request, "analyst", owner, issuer, moment, access.PartyRole.ANALYST)


def invitation(seen: LastSeen) -> Invitation:
    """To trust the root that was `seen`; nobody listens at its addresses."""
    return Invitation(
        node="hospital",
        address="localhost:1",
        enrolment_address="localhost:2",
        certificate_authority="-----BEGIN CERTIFICATE-----",
        root=seen.roots[0].document,
        root_signatures=seen.roots[0].signatures,
    )


def study_at(path: Path, seen: LastSeen) -> Study:
    """The study of an analyst who was let in and holds what was `seen`."""
    study = Study(path)
    study.certificate.parent.mkdir(parents=True)
    study.certificate.write_bytes(certificate())
    folder.write(study.key, ANALYST, folder.PRIVATE)
    study.invitation_file.write_bytes(invitation(seen).to_bytes())
    study.remember(seen)
    return study


class NotFound(grpc.RpcError):
    """What the owner answers who is asked for a root that there is not."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.NOT_FOUND


@dataclass(frozen=True)
class Stub:
    """What the consumer calls, answered by an owner in memory without a socket."""

    owner: Owner

    def GetRoot(self, request: wire.GetRootRequest, timeout: float) -> wire.GetRootResponse:  # noqa: N802
        if request.version > 1 + len(self.owner.roots):
            raise NotFound
        root, signers = self.owner.roots[request.version - 2]
        document = root.to_bytes()
        signatures = sign(Kind.ROOT, document, signers).to_bytes()
        return wire.GetRootResponse(
            root=self.owner.sent("root", document), signatures=self.owner.sent("root signatures", signatures)
        )

    def GetFreshness(self, request: wire.GetFreshnessRequest, timeout: float) -> wire.GetFreshnessResponse:  # noqa: N802
        document = self.owner.freshness().to_bytes()
        statement, signatures = self.owner.signed(KeyRole.FRESHNESS, Kind.FRESHNESS, document)
        return wire.GetFreshnessResponse(freshness=statement, signatures=signatures)

    def GetManifest(self, request: wire.GetManifestRequest, timeout: float) -> wire.GetManifestResponse:  # noqa: N802
        manifest, signatures = self.owner.signed(KeyRole.RELEASE, Kind.MANIFEST, self.owner.manifest().to_bytes())
        return wire.GetManifestResponse(manifest=manifest, signatures=signatures)

    def StreamArtefact(self, request: wire.StreamArtefactRequest, timeout: float) -> Iterator[wire.Chunk]:  # noqa: N802
        kind = next(kind for kind, number in ARTEFACT_KINDS.items() if number == request.kind)
        yield wire.Chunk(data=self.owner.sent(kind, self.owner.artefacts[kind])[request.offset :])

    def GetLogProof(self, request: wire.GetLogProofRequest, timeout: float) -> wire.GetLogProofResponse:  # noqa: N802
        entries = self.owner.entries()
        tree = Tree(entry.to_bytes() for entry in entries)
        place = next(index for index, entry in enumerate(entries) if isinstance(entry, Approval))
        return wire.GetLogProofResponse(
            checkpoint=self.owner.checkpoint(),
            consistency=tree.consistency(min(request.last_size, len(tree)), len(tree)),
            approval=self.owner.sent("approval", entries[place].to_bytes()),
            index=place,
            inclusion=tree.inclusion(place, len(tree)),
        )


def fetch(owner: Owner, study: Study, now: int = NOW, version: int | None = 3) -> Fetched:
    """The consumer's own fetch, from an owner in memory. Nothing is countersigned: sealing a key takes its time."""
    with (
        patch("consumer.channel.mutual", nullcontext),
        patch("consumer.fetching.service.ReleaseServiceStub", lambda opened: Stub(owner)),
        patch("consumer.trust_update.witness_key"),
        patch("consumer.trust_update.countersign"),
    ):
        return fetching.fetch(study, version, now)


def consume(
    owner: Owner, last_seen: LastSeen | None = None, now: int = NOW, version: int = 3
) -> tuple[TrustedRelease, LastSeen]:
    """What a consumer does that was invited by `Owner()` and asks for release 3; returns what it holds then."""
    with TemporaryDirectory() as folder:
        study = study_at(Path(folder) / "study", last_seen or trusting())
        return fetch(owner, study, now, version).release, study.last_seen()
