"""Signatures by threshold: Ed25519 (RFC 8032) over the DSSE pre-authentication encoding, each key counted once.

The encoding binds a signature to the kind of document, so none can pass for another kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field

from protocol.canonical_json import Document, Sha256
from protocol.refusals import BadSignature, DuplicateKey, UnderThreshold
from shared.frozen import Frozen
from shared.limits import LIMITS

_REMEDY = "fetch again; if it stays so, ask the owner, by telephone, whether its keys were changed"


class Kind(StrEnum):
    """The kinds of signed document."""

    ROOT = "root"
    MANIFEST = "manifest"
    FRESHNESS = "freshness"


class Signature(Frozen):
    """`key_id` is the SHA-256 of the raw public key, both fields in hex."""

    key_id: Sha256
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


class Signatures(Document):
    """The signatures of one document; of a root also those by the keys of the root before. No key may sign twice."""

    what = "signatures"

    signatures: tuple[Signature, ...] = Field(min_length=1, max_length=2 * LIMITS.signatures)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `DuplicateKey`, or another `VerificationFailure`."""
        found = super().from_bytes(data)
        if len({entry.key_id for entry in found.signatures}) != len(found.signatures):
            raise DuplicateKey("a key signed twice", field="signatures", remedy=_REMEDY)
        return found


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign(kind: Kind, document: bytes, keys: Iterable[Ed25519PrivateKey]) -> Signatures:
    """Sign canonical bytes with each key."""
    message = pre_authentication_encoding(kind, document)
    return Signatures(
        signatures=tuple(Signature(key_id=key_id(key.public_key()), signature=key.sign(message).hex()) for key in keys)
    )


def check_threshold(
    kind: Kind, document: bytes, signatures: bytes, keys: Mapping[str, Ed25519PublicKey], threshold: int
) -> None:
    """Raises a `VerificationFailure` unless `threshold` of `keys`, by key id, signed exactly these bytes.

    A signature by a key that is not among `keys` does not count; a bad one by a key that is refuses the whole.
    """
    message = pre_authentication_encoding(kind, document)
    counted = 0
    for entry in Signatures.from_bytes(signatures).signatures:
        key = keys.get(entry.key_id)
        if key is None:
            continue
        try:
            key.verify(bytes.fromhex(entry.signature), message)
        except InvalidSignature:
            raise BadSignature(f"does not match the {kind}", field="signatures", remedy=_REMEDY) from None
        counted += 1
    if counted < threshold:
        raise UnderThreshold(
            f"signed by {counted} of the owner's keys where {threshold} are needed", field=kind, remedy=_REMEDY
        )


def pre_authentication_encoding(kind: Kind, payload: bytes) -> bytes:
    """DSSE v1 PAE: "DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload."""
    name = f"application/vnd.fair4free.{kind}.v1+json".encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)
