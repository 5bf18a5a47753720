"""What the owner says about itself on the wire: its roots, what is fresh, and proofs of the egress log. Bytes only."""

from __future__ import annotations

import threading

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from data_owner import roots, servable
from data_owner.ledger import Ledger, Proof
from data_owner.node import Node
from protocol import checkpoint
from protocol.freshness import Freshness, Listed
from protocol.ledger_file import Countersigned
from protocol.refusals import Rewritten
from protocol.root import KeyRole, Root
from protocol.signing import Kind, sign
from shared.errors import BadInput, Unreachable
from shared.limits import LIMITS

RENEWED_SECONDS = LIMITS.freshness_seconds // 24


class AnotherWitness(BadInput):
    """A party countersigns with another key than at first."""


class ClocksDiffer(BadInput):
    """A party countersigns at another time than it is here."""


class TrustMetadata:
    """Signs with the node's freshness and log keys, which are unsealed once for each root."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self._node, self._ledger = node, ledger
        self._lock = threading.Lock()
        self._keys: tuple[Root, Ed25519PrivateKey, Ed25519PrivateKey] | None = None
        self._fresh: tuple[Freshness, bytes] | None = None
        self._unsealed()  # a key that cannot be opened is told to who starts this, not to who asks

    def root(self, version: int) -> tuple[bytes, bytes] | None:
        """A root document and its signatures, None if there is none of that version."""
        return roots.read(self._node, version)

    def freshness(self, now: int) -> tuple[bytes, bytes]:
        """The statement of this moment and its signatures; the same one for an hour while nothing changes."""
        with self._lock:
            root, key, _ = self._unsealed()
            listed = tuple(
                Listed(version=version, manifest_sha256=manifest.digest)
                for version, manifest in servable.manifests(self._node, now).items()
            )[-LIMITS.releases_listed :]
            # a statement from a clock that was ahead would be refused everywhere until its time came
            if self._fresh is not None and self._fresh[0].version > now + LIMITS.clock_skew_seconds:
                self._fresh = None
            if self._fresh is not None:
                last = self._fresh[0]
                is_young = now < last.version + RENEWED_SECONDS
                if is_young and (last.releases, last.root_version) == (listed, root.version):
                    return last.to_bytes(), self._fresh[1]
                now = max(now, last.version + 1)
            found = Freshness(
                node=root.node,
                version=now,
                expires=now + LIMITS.freshness_seconds,
                root_version=root.version,
                releases=listed,
            )
            signatures = sign(Kind.FRESHNESS, found.to_bytes(), [key]).to_bytes()
            self._fresh = (found, signatures)
            return found.to_bytes(), signatures

    def log_proof(self, version: int, last_size: int) -> Proof:
        """Raises `NotLogged` for a release that nobody approved."""
        with self._lock:
            root, _, key = self._unsealed()
        return self._ledger.prove(version, last_size, checkpoint.origin(root.node), key)

    def countersign(self, party: str, note: bytes, key: bytes, now: int) -> None:
        """Keep a consumer's countersignature, if it is one made now of a checkpoint of this log by its own witness
        key."""
        found = _countersigned(party, note, key)
        if self._ledger.witness_key(party) not in (None, found.key):
            raise AnotherWitness("another is known for this party", field="witness key", remedy="enrol a new study")
        signed = checkpoint.verify_checkpoint(roots.newest(self._node), note)
        _, at = found.verify()
        if abs(at - now) > LIMITS.clock_skew_seconds:
            problem = f"countersigned over {LIMITS.clock_skew_seconds} seconds from the time here"
            raise ClocksDiffer(problem, field="checkpoint", remedy="check the clock of this machine")
        if not self._ledger.continues(signed):
            raise Rewritten("a checkpoint that this log does not continue", field="checkpoint", remedy="tell the owner")
        self._ledger.keep_countersigned(found)

    def _unsealed(self) -> tuple[Root, Ed25519PrivateKey, Ed25519PrivateKey]:
        root = roots.newest(self._node)
        if self._keys is None or self._keys[0] != root:
            try:
                self._keys = (
                    root,
                    roots.signing_key(self._node, KeyRole.FRESHNESS),
                    roots.signing_key(self._node, KeyRole.LOG),
                )
            except BadInput as error:
                raise Unreachable(error.problem, field=error.field, remedy=error.remedy) from error
        return self._keys


def _countersigned(party: str, note: bytes, key: bytes) -> Countersigned:
    try:
        return Countersigned(party=party, key=key.hex(), note=note.decode())
    except ValueError:
        raise BadInput("not a countersigned checkpoint", field="checkpoint", remedy="fetch again") from None
