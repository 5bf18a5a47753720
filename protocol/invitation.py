"""The invitation: the public keys and addresses an owner hands over out of band. A consumer's root of trust."""

from __future__ import annotations

import hashlib
from typing import Literal, Self

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, ValidationError

from protocol.manifest import HEX
from shared.errors import BadInput
from shared.limits import LIMITS
from shared.schema import Frozen, Name, describe

Address = r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$"


class Invitation(Frozen):
    """Holds nothing secret; what matters is that it arrives unchanged, which its fingerprint shows."""

    format: Literal[1] = 1
    node: Name
    address: str = Field(pattern=Address)
    enrolment_address: str = Field(pattern=Address)
    certificate_authority: str = Field(max_length=LIMITS.request_bytes)
    release_key: str = Field(pattern=HEX)

    @property
    def key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.release_key))

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex, of what must never change: the node, its authority and its release key."""
        lasting = {
            "node": self.node,
            "authority": self.certificate_authority,
            "release_key": self.release_key,
        }
        return hashlib.sha256(rfc8785.dumps(lasting)).hexdigest()

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `BadInput` naming the field."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise BadInput(describe(error), field="invitation", remedy="ask the owner to hand it over again") from None
