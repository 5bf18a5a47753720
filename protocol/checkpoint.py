"""Checkpoints of the egress log (C2SP tlog-checkpoint): its name, size and root hash, signed as a note."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.merkle import Tree
from protocol.note import Note
from protocol.refusals import NotCanonical, UnderThreshold, WrongNode
from protocol.root import KeyRole, Root

_REMEDY = "ask the owner for the log again; keep the checkpoint as evidence"


@dataclass(frozen=True)
class Checkpoint:
    """`root_hash` is the RFC 6962 tree hash of the first `size` entries of the log called `origin`."""

    origin: str
    size: int
    root_hash: bytes

    def to_text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root_hash).decode()}\n"

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Parse the text of a note. Raises a `VerificationFailure`, for extension lines too: nobody here could audit
        them."""
        origin, _, rest = text.partition("\n")
        size, _, encoded = rest.partition("\n")
        try:
            root_hash = base64.b64decode(encoded.removesuffix("\n"), validate=True)
            found = cls(origin, int(size) if size.isascii() and size.isdecimal() and len(size) < 20 else -1, root_hash)
        except (binascii.Error, ValueError):
            raise _refused() from None
        if found.size < 0 or len(root_hash) != 32 or not origin or found.to_text() != text:
            raise _refused()
        return found

    @classmethod
    def from_note(cls, note: bytes) -> Checkpoint:
        """What a note says, whoever signed it."""
        return cls.from_text(Note.from_bytes(note).text)

    def begins(self, tree: Tree) -> bool:
        """Whether this is the log that `tree` continues."""
        return self.size <= len(tree) and tree.root(self.size) == self.root_hash

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The note, signed by the log's key under the log's name."""
        return Note(self.to_text(), ()).signed(self.origin, key).to_bytes()


def origin(node: str) -> str:
    """The name of a node's log, the same for as long as the node has its name."""
    return f"fair4free.internal/{quote(node, safe='')}"


def verify_checkpoint(root: Root, note: bytes) -> Checkpoint:
    """A checkpoint of the node's log, signed by the threshold of its log keys. Raises a `VerificationFailure`."""
    parsed = Note.from_bytes(note)
    found = Checkpoint.from_text(parsed.text)
    if found.origin != origin(root.node):
        raise WrongNode("a checkpoint of another log", field="checkpoint", remedy=_REMEDY)
    signed = sum(parsed.has_signature(found.origin, key) for key in root.public_keys(KeyRole.LOG).values())
    if signed < root.roles[KeyRole.LOG].threshold:
        raise UnderThreshold("not signed by the log's keys", field="checkpoint", remedy=_REMEDY)
    return found


def _refused() -> NotCanonical:
    return NotCanonical("not a name, a size and a root hash", field="checkpoint", remedy=_REMEDY)
