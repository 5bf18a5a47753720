"""An owner in memory. Change one field, or one line of bytes on their way, and it says what it was made to say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import access
from protocol.artefacts import PAYLOAD, Artefact
from protocol.checkpoint import Checkpoint, origin
from protocol.entry import Approval, Denial, Enrolment, Entry, Served
from protocol.freshness import Freshness, Listed, verify_freshness
from protocol.manifest import Digest, Manifest
from protocol.merkle import Tree
from protocol.root import KeyRole, RoleKeys, Root, anchor, check_in_date, rotate
from protocol.signing import Kind, key_id, sign
from protocol.trust import (
    LastSeen,
    LogProof,
    TrustedRelease,
    verify_growth,
    verify_listed_manifest,
    verify_logged,
    verify_release,
)

NOW = 1_800_000_000
POLICY = hashlib.sha256(b"policy").hexdigest()
PARTY = hashlib.sha256(b"analyst").hexdigest()
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
    return LastSeen(root=document.decode(), root_signatures=signatures.decode())


def consume(
    owner: Owner, last_seen: LastSeen | None = None, now: int = NOW, version: int = 3
) -> tuple[TrustedRelease, LastSeen]:
    """What an honest consumer does that was invited by `Owner()` and asks for release 3; returns what it holds then."""
    seen = last_seen or trusting()
    root = anchor(seen.root.encode(), seen.root_signatures.encode())
    for later, signers in owner.roots[root.version - 1 :]:
        document = later.to_bytes()
        pair = (
            owner.sent("root", document),
            owner.sent("root signatures", sign(Kind.ROOT, document, signers).to_bytes()),
        )
        root, seen = rotate(root, *pair), seen.after_rotation(*pair)
    check_in_date(root, now)
    freshness = verify_freshness(
        root,
        *owner.signed(KeyRole.FRESHNESS, Kind.FRESHNESS, owner.freshness().to_bytes()),
        last_version=seen.freshness,
        now=now,
    )
    document, signatures = owner.signed(KeyRole.RELEASE, Kind.MANIFEST, owner.manifest().to_bytes())
    manifest = verify_listed_manifest(root, freshness, document, signatures, version=version, last_seen=seen, now=now)
    release = verify_release(manifest, {kind: owner.sent(kind, data) for kind, data in owner.artefacts.items()})
    tree = Tree(entry.to_bytes() for entry in owner.entries())
    old = int(seen.checkpoint.split("\n")[1]) if seen.checkpoint else 0
    note = owner.checkpoint()
    verify_growth(root, seen.checkpoint, note, tree.consistency(min(old, len(tree)), len(tree)))
    place = next(index for index, entry in enumerate(owner.entries()) if isinstance(entry, Approval))
    proof = LogProof.of(
        note,
        owner.sent("approval", owner.entries()[place].to_bytes()),
        place,
        tree.inclusion(place, len(tree)),
    )
    verify_logged(root, manifest, proof)
    return release, seen.model_copy(
        update={
            "freshness": freshness.version,
            "release": manifest.version,
            "manifest_sha256": manifest.digest,
            "checkpoint": note.decode(),
        }
    )
