"""A private key encrypted at rest: scrypt (RFC 7914) stretches a passphrase, ChaCha20-Poly1305 (RFC 8439) seals."""

from __future__ import annotations

import os
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import Field, ValidationError

from shared.errors import BadInput
from shared.frozen import Frozen

COST = 2**15
"""scrypt N, with r = 8: 32 MiB and a tenth of a second for each guess."""


class SealedKey(Frozen):
    """All in hex. `public` is the raw public key, in the clear, and bound to what is sealed."""

    format: Literal[1] = 1
    public: str = Field(pattern=r"^[0-9a-f]{64}$")
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    nonce: str = Field(pattern=r"^[0-9a-f]{24}$")
    sealed: str = Field(pattern=r"^[0-9a-f]{96}$")


class WrongPassphrase(BadInput):
    """A sealed key that another passphrase opens, if any does."""


def seal(key: Ed25519PrivateKey, passphrase: bytes) -> bytes:
    """The bytes of a file that is worth nothing without the passphrase."""
    public, salt, nonce = key.public_key().public_bytes_raw(), os.urandom(16), os.urandom(12)
    sealed = _cipher(passphrase, salt).encrypt(nonce, key.private_bytes_raw(), public)
    found = SealedKey(public=public.hex(), salt=salt.hex(), nonce=nonce.hex(), sealed=sealed.hex())
    return found.model_dump_json(indent=2).encode() + b"\n"


def unseal(data: bytes, passphrase: bytes, field: str) -> Ed25519PrivateKey:
    """Raises `WrongPassphrase`, and `BadInput` for a file that is no sealed key."""
    try:
        found = SealedKey.model_validate_json(data)
        cipher = _cipher(passphrase, bytes.fromhex(found.salt))
        raw = cipher.decrypt(bytes.fromhex(found.nonce), bytes.fromhex(found.sealed), bytes.fromhex(found.public))
    except ValidationError:
        raise BadInput("not a sealed key", field=field, remedy="restore it from its backup") from None
    except InvalidTag:
        raise WrongPassphrase(
            "the passphrase is not this key's", field=field, remedy="give the one it was sealed with"
        ) from None
    return Ed25519PrivateKey.from_private_bytes(raw)


def _cipher(passphrase: bytes, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=COST, r=8, p=1).derive(passphrase))
