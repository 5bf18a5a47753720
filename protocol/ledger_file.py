"""The egress log as a file for somebody who holds only public keys: every entry, the newest checkpoint, the roots
that lead to its key, and what consumers have countersigned. Verified without a network and without a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field

from protocol.artefacts import Artefact
from protocol.canonical_json import Document, Sha256
from protocol.checkpoint import Checkpoint, verify_checkpoint
from protocol.entry import Enrolment, Entry, Served, Standing, parse_entry
from protocol.merkle import Tree
from protocol.note import Note
from protocol.refusals import ASK_OWNER, BadSignature, Equivocation, Rewritten, Rollback, RuleBroken
from protocol.root import Root, SignedRoot, follow
from protocol.trust import LastSeen, TrustedRelease
from shared.frozen import Frozen
from shared.limits import LIMITS


class Countersigned(Frozen):
    """A checkpoint as a consumer countersigned it. `party` is its key's fingerprint, `key` its witness key (hex)."""

    party: Sha256
    key: Sha256
    note: str = Field(max_length=LIMITS.note_bytes)

    def verify(self) -> tuple[Checkpoint, int]:
        """What was countersigned and when, in seconds since 1970-01-01 UTC. Raises a `VerificationFailure`."""
        note = Note.from_bytes(self.note.encode())
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
        at = note.cosignature_time(witness_name(self.party), key)
        if at is None:
            raise BadSignature("the checkpoint is not countersigned", field="checkpoint", remedy="countersign again")
        return Checkpoint.from_text(note.text), at


class LedgerFile(Document):
    """`roots` rise by one from the first one kept; `entries` are canonical JSON, in order."""

    what = "ledger file"
    most_bytes = LIMITS.ledger_bytes

    format: Literal[1] = 1
    roots: tuple[SignedRoot, ...] = Field(min_length=1)
    checkpoint: str = Field(max_length=LIMITS.note_bytes)
    entries: tuple[str, ...]
    countersigned: tuple[Countersigned, ...]


@dataclass(frozen=True)
class VerifiedLedger:
    """A verified log: the node's name, its checkpoint, its entries in order, where they leave things, who has
    countersigned, and what a study has `seen` that it was held to, if anything."""

    node: str
    checkpoint: Checkpoint
    entries: tuple[Entry, ...]
    standing: Standing
    countersigned: tuple[tuple[str, int, int], ...]
    """Party, size of the log it has seen, and when (seconds since 1970-01-01 UTC)."""
    seen: LastSeen | None

    def different_bytes(self, version: int) -> int:
        """Bytes of a release that are logged as having left, each once, to however many parties it went."""
        served = [entry for entry in self.entries if isinstance(entry, Served) and entry.version == version]
        stretches = (_stretches(each for each in served if each.artefact is kind) for kind in Artefact)
        return sum(stop - start for found in stretches for start, stop in found)

    def bytes_served(self, version: int, party: str) -> int:
        """Bytes of a release that are logged as having gone to the party with this fingerprint."""
        return sum(entry.length for entry in self._served(version, party))

    def unlogged(self, release: TrustedRelease, party: str) -> tuple[Artefact, ...]:
        """What this party holds of a release that is not logged, to its last byte, as having gone to it."""
        held = {Artefact.MANIFEST: release.manifest.to_bytes(), **release.artefacts}
        return tuple(
            kind for kind, data in held.items() if self._reached(release.manifest.version, party, kind) < len(data)
        )

    def _reached(self, version: int, party: str, kind: Artefact) -> int:
        """How far from its first byte an artefact is logged without a gap, however often a transfer was resumed."""
        found = _stretches(each for each in self._served(version, party) if each.artefact is kind)
        return found[0][1] if found and found[0][0] == 0 else 0

    def _served(self, version: int, party: str) -> Iterator[Served]:
        served = (entry for entry in self.entries if isinstance(entry, Served))
        return (entry for entry in served if (entry.version, entry.party) == (version, party))


def _stretches(served: Iterable[Served]) -> list[tuple[int, int]]:
    """Where the bytes of one artefact that are logged begin and end, rising, with a gap between any two stretches."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted((each.offset, each.offset + each.length) for each in served):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def witness_name(party: str) -> str:
    """The key name under which the consumer with this fingerprint countersigns."""
    return f"fair4free.internal/consumer/{party}"


def verify_ledger(file: LedgerFile, trusted: Root, seen: LastSeen | None = None) -> VerifiedLedger:
    """Verify an exported log, starting from a root that arrived by a safe way.

    It must be signed by the node's log keys, be the very tree of its checkpoint, obey the rules of `Standing`, and
    continue every checkpoint that a party it let in has countersigned, one each, and what a study has `seen` if given,
    the release included: a key that it knows to be replaced speaks for the node no longer. That the release was denied
    since is no contradiction; `standing` tells. Only what was seen proves more than the owner's word: the keys of
    countersignatures come in the file. Raises a `VerificationFailure` unless all of that holds.
    """
    root = _newest_root(file, trusted)
    if seen is not None:
        root = _newest_root(file, seen.trusted_root())
    checkpoint = verify_checkpoint(root, file.checkpoint.encode())
    tree, standing, entries = Tree(), Standing(), []
    for text in file.entries:
        data = text.encode()
        tree.append(data)
        entry = parse_entry(data)
        standing.admit(entry)
        entries.append(entry)
    _check_continues(tree, checkpoint)
    if len(tree) != checkpoint.size:
        raise Rewritten("holds other entries than its checkpoint counts", field="log", remedy=ASK_OWNER)
    if seen is not None:
        last = seen.logged()
        if len(tree) < last.size:
            raise _exported_before("log")
        _check_continues(tree, last)
        _check_release(standing, seen)
    let_in = {entry.party for entry in entries if isinstance(entry, Enrolment)}
    countersigned = []
    for each in file.countersigned:
        known, at = each.verify()
        _check_continues(tree, known)
        if each.party not in let_in:
            raise RuleBroken("countersigned by nobody it let in, or twice", field="countersigned", remedy=ASK_OWNER)
        let_in.remove(each.party)
        countersigned.append((each.party, known.size, at))
    return VerifiedLedger(root.node, checkpoint, tuple(entries), standing, tuple(countersigned), seen)


def _newest_root(file: LedgerFile, trusted: Root) -> Root:
    """Follow the file's roots from the trusted one, which must be among them."""
    if Root.from_bytes(file.roots[-1].document.encode()).version < trusted.version:
        raise _exported_before("root")
    return follow(trusted, file.roots)[-1]


def _check_release(standing: Standing, seen: LastSeen) -> None:
    approval = standing.approved.get(seen.release)
    if seen.release and (approval is None or approval.manifest.sha256 != seen.manifest_sha256):
        raise Equivocation(
            f"does not approve release {seen.release} as it was fetched",
            field="log",
            remedy="keep the study and this file as evidence; ask the owner, by telephone",
        )


def _exported_before(field: str) -> Rollback:
    return Rollback(
        "exported before what was seen",
        field=field,
        remedy="ask the owner for a new export; if there can be none, entries were left out: keep this as evidence",
    )


def _check_continues(tree: Tree, checkpoint: Checkpoint) -> None:
    if not checkpoint.begins(tree):
        raise Rewritten(
            "the log does not continue a checkpoint that was signed",
            field="log",
            remedy="entries were changed or left out: keep both as evidence",
        )
