"""The egress log out of a node into a file, and back in front of somebody who trusts only an invitation."""

from __future__ import annotations

from pathlib import Path

from data_owner import roots
from data_owner.ledger import Ledger
from data_owner.node import Node
from protocol import checkpoint
from protocol.checkpoint import Checkpoint
from protocol.invitation import Invitation
from protocol.ledger_file import LedgerFile, VerifiedLedger, verify_ledger
from protocol.root import KeyRole, SignedRoot
from protocol.trust import LastSeen
from shared import folder
from shared.errors import BadInput
from shared.limits import LIMITS


def export(node: Node) -> LedgerFile:
    """Every entry under a checkpoint signed now, the roots, and what consumers countersigned."""
    root, key = roots.newest(node), roots.signing_key(node, KeyRole.LOG)
    with Ledger(node.ledger) as log:
        note = log.checkpoint(checkpoint.origin(root.node), key)
        size = Checkpoint.from_note(note).size
        return LedgerFile(
            roots=tuple(
                SignedRoot(document=document.decode(), signatures=signatures.decode())
                for document, signatures in roots.chain(node)
            ),
            checkpoint=note.decode(),
            entries=tuple(entry.decode() for entry in log.entries()[:size]),
            countersigned=tuple(each for each in log.countersigned() if each.verify()[0].size <= size),
        )


def verified(file: Path, invitation: Path, seen: Path | None) -> VerifiedLedger:
    """Read and verify an exported log. Raises a `VerificationFailure` for one that proves nothing."""
    invited = folder.read(invitation, "give the node's invitation.json", LIMITS.invitation_bytes)
    trusted = Invitation.from_bytes(invited).trusted_root()
    last = None
    if seen is not None:
        last = LastSeen.from_bytes(folder.read(seen, "give a study's last_seen.json", LastSeen.most_bytes))
        if not last.checkpoint:
            raise BadInput("that study has seen no checkpoint yet", field=str(seen), remedy="leave --seen out")
    exported = folder.read(file, "give a file that `ledger export` wrote", LedgerFile.most_bytes)
    return verify_ledger(LedgerFile.from_bytes(exported), trusted, last)
