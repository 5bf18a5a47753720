"""Sealed Ed25519 keys in a folder, and where their passphrase comes from.

In this order: the file that FAIR4FREE_PASSPHRASE_FILE names (a mounted secret or a credential of the service
manager), the variable FAIR4FREE_PASSPHRASE, or else `passphrase` beside the keys, made with the first key. The last
lets a node start unattended, and protects only a key file that is copied without it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import folder
from shared.errors import BadInput, Unreachable
from shared.sealed_key import seal, unseal

VARIABLE, FILE_VARIABLE = "FAIR4FREE_PASSPHRASE", "FAIR4FREE_PASSPHRASE_FILE"
BESIDE = "passphrase"


def create(path: Path, key: Ed25519PrivateKey, passphrase: bytes) -> None:
    """Seal `key` into a new file. Raises `BadInput` rather than replace a key."""
    if path.exists():
        raise folder.there_already(path, "choose another file")
    folder.write(path, seal(key, passphrase), folder.PRIVATE)


def sealed(path: Path) -> bytes:
    """The file of a key. Raises `Unreachable` if it is not here."""
    return folder.read(path, "restore the key from its backup, or attach its medium")


def read(path: Path, passphrase: bytes) -> Ed25519PrivateKey:
    """Raises `Unreachable` if there is no such key here, `BadInput` if it is damaged or the passphrase is another."""
    return unseal(sealed(path), passphrase, str(path))


def passphrase_of(keys: Path) -> bytes:
    """The passphrase of the keys in a folder. Raises `Unreachable` if there is none, `BadInput` if the file is
    empty."""
    return given() or folder.read(keys / BESIDE, f"set {FILE_VARIABLE} or {VARIABLE}").strip()


def new_passphrase_of(keys: Path) -> bytes:
    """The same, writing one beside the keys when none is given from outside."""
    if given() is None and not (keys / BESIDE).exists():
        folder.write(keys / BESIDE, secrets.token_hex(32).encode(), folder.PRIVATE)
    return passphrase_of(keys)


def named_file() -> Path | None:
    """Where a passphrase from outside is said to lie, if in a file."""
    name = os.environ.get(FILE_VARIABLE)
    return Path(name) if name else None


def check_named_file() -> None:
    """Raises `Unreachable` where others can read or change the passphrase's file, but for a group: mounted secrets are
    read by one."""
    path = named_file()
    if path and path.is_file() and path.stat().st_mode & 0o027:
        raise Unreachable("others can read or change it", field=str(path), remedy="run chmod 400 on it")


def given() -> bytes | None:
    """The passphrase from outside, if there is one. Raises `Unreachable` or `BadInput` for a file that holds none."""
    path = named_file()
    found = folder.read(path, f"correct {FILE_VARIABLE}") if path else os.environ.get(VARIABLE, "").encode()
    if path and not found.strip():
        raise BadInput("is empty", field=FILE_VARIABLE, remedy="write a passphrase into that file")
    return found.strip() or None
