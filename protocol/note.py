"""Signed notes (C2SP signed-note) and the cosignatures put under them (C2SP tlog-cosignature v1, Ed25519).

A note is text, an empty line, then signature lines: em dash, space, key name, space, base64 of key id and signature.
A line of another form refuses the whole note; a well-formed line by an unknown key does not count.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.refusals import BadSignature, DuplicateKey, EndlessData, NotCanonical
from shared.limits import LIMITS

_DASH = "— "
_REMEDY = "ask the owner for the log again; keep the note as evidence"


class Algorithm(IntEnum):
    """The signature type byte that goes into a key id."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True)
class Line:
    """One signature line: the key's name, the 4 bytes of its id, and the signature."""

    name: str
    key_id: bytes
    signature: bytes

    def to_text(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True)
class Note:
    """`text` ends with a newline and holds no signature line."""

    text: str
    lines: tuple[Line, ...]

    def to_bytes(self) -> bytes:
        return (self.text + "\n" + "".join(line.to_text() for line in self.lines)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        """Parse foreign bytes. Raises `EndlessData` or `NotCanonical`; says nothing about who signed."""
        if len(data) > LIMITS.note_bytes:
            raise EndlessData("more bytes than the limit allows", field="note", remedy=_REMEDY)
        try:
            whole = data.decode()
        except UnicodeDecodeError:
            raise _refused("not UTF-8") from None
        text, blank, signatures = whole.rpartition("\n\n")
        if not blank or not text or any(ord(letter) < 0x20 and letter != "\n" for letter in whole):
            raise _refused("not text, an empty line and signatures")
        if not signatures.endswith("\n") or signatures.count("\n") > LIMITS.signatures + 1:  # one is a consumer's
            raise _refused("has no or too many signature lines, or an unfinished one")
        return cls(text + "\n", tuple(_parse_line(line) for line in signatures[:-1].split("\n")))

    def signed(self, name: str, key: Ed25519PrivateKey) -> Note:
        """The same note with one more signature."""
        line = Line(name, key_id(name, Algorithm.ED25519, key.public_key()), key.sign(self.text.encode()))
        return Note(self.text, (*self.lines, line))

    def cosigned(self, name: str, key: Ed25519PrivateKey, at: int) -> Note:
        """The same note with one more cosignature: seen, and consistent, at `at` seconds since 1970-01-01 UTC."""
        signature = struct.pack(">Q", at) + key.sign(_cosigned_message(self.text, at))
        line = Line(name, key_id(name, Algorithm.COSIGNATURE, key.public_key()), signature)
        return Note(self.text, (*self.lines, line))

    def has_signature(self, name: str, key: Ed25519PublicKey) -> bool:
        """Whether this key signed. Raises `BadSignature` if a line in its name is not a signature of the text."""
        line = self._line(name, Algorithm.ED25519, key)
        if line is not None:
            _verify(key, line.signature, self.text.encode())
        return line is not None

    def cosignature_time(self, name: str, key: Ed25519PublicKey) -> int | None:
        """When this key cosigned, in seconds since 1970-01-01 UTC, None if it did not. Raises a
        `VerificationFailure`."""
        line = self._line(name, Algorithm.COSIGNATURE, key)
        if line is None:
            return None
        if len(line.signature) != 72:
            raise BadSignature("a cosignature is not 72 bytes", field="note", remedy=_REMEDY)
        at = int(struct.unpack(">Q", line.signature[:8])[0])
        _verify(key, line.signature[8:], _cosigned_message(self.text, at))
        if at > LIMITS.last_second:
            raise BadSignature("a cosignature is of a time that no clock shows", field="note", remedy=_REMEDY)
        return at

    def _line(self, name: str, algorithm: Algorithm, key: Ed25519PublicKey) -> Line | None:
        wanted = key_id(name, algorithm, key)
        found = [line for line in self.lines if line.name == name and line.key_id == wanted]
        if len(found) > 1:
            raise DuplicateKey("a key signed twice", field="note", remedy=_REMEDY)
        return found[0] if found else None


def key_id(name: str, algorithm: Algorithm, key: Ed25519PublicKey) -> bytes:
    """SHA-256(name, newline, type byte, raw public key), its first 4 bytes."""
    return hashlib.sha256(name.encode() + bytes([0x0A, algorithm]) + key.public_bytes_raw()).digest()[:4]


def _is_key_name(name: str) -> bool:
    """Not empty, no white space, no plus."""
    return bool(name) and "+" not in name and not any(letter.isspace() for letter in name)


def _parse_line(line: str) -> Line:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _is_key_name(name):
        raise _refused("a signature line is not well formed")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("a signature is not base64") from None
    if len(decoded) < 5 or base64.b64encode(decoded).decode() != encoded:
        raise _refused("a signature is not base64 of key id and signature")
    return Line(name, decoded[:4], decoded[4:])


def _cosigned_message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def _verify(key: Ed25519PublicKey, signature: bytes, message: bytes) -> None:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise BadSignature("a signature is not of this text", field="note", remedy=_REMEDY) from None


def _refused(problem: str) -> NotCanonical:
    return NotCanonical(problem, field="note", remedy=_REMEDY)
