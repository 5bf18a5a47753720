"""The manifest: which bytes make a release, who may rely on it and until when; and its signature.

Its only encoding is canonical JSON (RFC 8785), so equal manifests have equal bytes. The signature is Ed25519
(RFC 8032) over the DSSE pre-authentication encoding of those bytes, which binds them to their type.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self, TypeVar

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError, model_validator

from protocol.artefacts import PAYLOAD, Artefact
from shared.errors import VerificationFailure
from shared.limits import LIMITS
from shared.schema import Frozen, Name, describe

PAYLOAD_TYPE = "application/vnd.fair4free.manifest.v1+json"
HEX = r"^[0-9a-f]{64}$"

Model = TypeVar("Model", bound=Frozen)


class Digest(Frozen):
    """SHA-256 (hex) and exact length, in bytes, of an artefact."""

    sha256: str = Field(pattern=HEX)
    length: int = Field(ge=1, le=LIMITS.artefact_bytes)

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(sha256=hashlib.sha256(data).hexdigest(), length=len(data))


class Manifest(Frozen):
    """`created` and `expires` are seconds since 1970-01-01 UTC; versions of a node only rise."""

    format: Literal[1] = 1
    node: Name
    version: int = Field(ge=1, le=2**31 - 1)
    created: int = Field(ge=0, le=2**53 - 1)
    expires: int = Field(ge=0, le=2**53 - 1)
    schema_id: str = Field(pattern=HEX)
    policy_id: str = Field(pattern=HEX)
    privacy: str = Field(min_length=1, max_length=4000)
    artefacts: dict[Artefact, Digest]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if set(self.artefacts) != set(PAYLOAD):
            raise ValueError("artefacts must be exactly " + ", ".join(PAYLOAD))
        if self.schema_id != self.artefacts[Artefact.SCHEMA].sha256:
            raise ValueError("schema_id is not the digest of the schema")
        if self.expires <= self.created:
            raise ValueError("expires must be after created")
        return self

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse canonical bytes. Raises `VerificationFailure` for anything else."""
        return parse_canonical(cls, data, "manifest")


class Signature(Frozen):
    """`key_id` is the SHA-256 of the raw public key, both fields in hex."""

    key_id: str = Field(pattern=HEX)
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def to_bytes(self) -> bytes:
        return rfc8785.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        return parse_canonical(cls, data, "signature")


def parse_canonical(model: type[Model], data: bytes, field: str) -> Model:
    """Parse foreign JSON of which only the canonical bytes are accepted: one meaning, one encoding."""
    remedy = "ask the owner for the release again"
    if len(data) > LIMITS.manifest_bytes:
        raise VerificationFailure("more bytes than the limit allows", field=field, remedy=remedy)
    try:
        content = json.loads(data, object_pairs_hook=_without_duplicates)
        canonical = rfc8785.dumps(content)
        parsed = model.model_validate_json(data)
    except ValidationError as error:
        raise VerificationFailure(describe(error), field=field, remedy=remedy) from None
    except (ValueError, RecursionError):
        raise VerificationFailure("not canonical JSON", field=field, remedy=remedy) from None
    if canonical != data:
        raise VerificationFailure("not canonical JSON", field=field, remedy=remedy)
    return parsed


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign(manifest: bytes, key: Ed25519PrivateKey) -> Signature:
    """Sign canonical manifest bytes."""
    signature = key.sign(pre_authentication_encoding(manifest))
    return Signature(key_id=key_id(key.public_key()), signature=signature.hex())


def check_signature(manifest: bytes, signature: Signature, key: Ed25519PublicKey) -> None:
    """Raises `VerificationFailure` unless `key` signed exactly these bytes."""
    remedy = "fetch again; if it stays so, compare the invitation's fingerprint with the owner by telephone"
    if signature.key_id != key_id(key):
        raise VerificationFailure("signed by a key that is not the owner's", field="signature", remedy=remedy)
    try:
        key.verify(bytes.fromhex(signature.signature), pre_authentication_encoding(manifest))
    except InvalidSignature:
        raise VerificationFailure("does not match the manifest", field="signature", remedy=remedy) from None


def pre_authentication_encoding(payload: bytes) -> bytes:
    """DSSE v1 PAE: "DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key repeats")
    return found
