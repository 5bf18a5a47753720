"""The node's root documents and the keys they name: made, proposed, signed offline, and installed by the rules.

root/N.json, root/N.sig hold every root of the node; keys/ROLE-ID.key the private keys that are here, sealed. The
root key may be anywhere: only `sign` needs it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from data_owner import release, servable
from data_owner.node import Node
from data_owner.release_status import SERVABLE
from protocol.artefacts import SIGNATURES
from protocol.refusals import BadSignature, DuplicateKey, Expired, Rollback, UnderThreshold
from protocol.root import KeyRole, RoleKeys, Root, anchor, rotate
from protocol.signing import Kind, Signatures, key_id, sign
from shared import folder, keyring
from shared.errors import BadInput, Unreachable, VerificationFailure
from shared.limits import LIMITS
from shared.sealed_key import WrongPassphrase

ONLINE = (KeyRole.RELEASE, KeyRole.FRESHNESS, KeyRole.LOG)
_LIFETIME = int(timedelta(days=LIMITS.root_days).total_seconds())
_RESTORE = "restore the node's root folder from its backup"
_PROPOSE_AGAIN = "propose a root again"
_IN_FORCE = f"nothing is to be done if `root show` says what you expect; else {_PROPOSE_AGAIN}"
_REMEDIES = {
    UnderThreshold: "let another holder run `fair4free-owner root sign` on this file and its .sig, then install again",
    BadSignature: "copy the document and its .sig again, or remove the .sig and let every holder sign again",
}
_KEY_NAME = re.compile(rf"({'|'.join(KeyRole)})-[0-9a-f]{{16}}\.key")


def create(node: Node, name: str, now: int) -> Root:
    """The first root, every role with one new key of its own."""
    keys = {role: Ed25519PrivateKey.generate() for role in KeyRole}
    passphrase = keyring.new_passphrase_of(node.keys)
    for role, key in keys.items():
        _keep_key(node, role, key, passphrase)
    root = _root(name, 1, now, {role: ([_public(key)], 1) for role, key in keys.items()})
    document = root.to_bytes()
    _keep(node, root.version, document, sign(Kind.ROOT, document, [keys[KeyRole.ROOT]]).to_bytes())
    return root


def read(node: Node, version: int) -> tuple[bytes, bytes] | None:
    """A root document and its signatures, None if there is none of that version. Raises `Unreachable` for what its own
    keys did not sign."""
    place = node.roots / f"{version}.json"
    if not place.is_file():
        return None
    signed = place.with_suffix(".sig")
    document, signatures = folder.read(place, _RESTORE), folder.read(signed, _RESTORE)
    with folder.intact(place, _RESTORE):
        Root.from_bytes(document)
    with folder.intact(signed, _RESTORE):
        Signatures.from_bytes(signatures)
    with folder.intact(node.roots, _RESTORE):  # either of the two may have changed
        anchor(document, signatures)
    return document, signatures


def chain(node: Node) -> list[tuple[bytes, bytes]]:
    """Every root with its signatures, from the first. Raises `Unreachable` where one is gone from among them."""
    found: list[tuple[bytes, bytes]] = []
    while (pair := read(node, len(found) + 1)) is not None:
        found.append(pair)
    next_version = len(found) + 1
    if any(path.stem.isdecimal() and int(path.stem) > next_version for path in node.roots.glob("*.json")):
        raise Unreachable(
            "is gone, newer ones are here", field=str(node.roots / f"{next_version}.json"), remedy=_RESTORE
        )
    if not found:
        raise Unreachable("has no root document", field=str(node.roots), remedy="restore it from its backup")
    return found


def newest(node: Node) -> Root:
    return Root.from_bytes(chain(node)[-1][0])


def signing_key(node: Node, role: KeyRole) -> Ed25519PrivateKey:
    """The private key of a role that is at this node. Raises `Unreachable` if none is, `BadInput` if it stays shut."""
    for path in _here(node, newest(node), role):
        return _opened(path, role, keyring.passphrase_of(node.keys))
    remedy = f"restore it from its backup, or {_renewed(role)}"
    raise Unreachable(f"the {role} key is not here", field=str(node.keys), remedy=remedy)


def propose(node: Node, now: int, root_keys: list[str], threshold: int | None, renew: Iterable[str]) -> Root:
    """The next root, to be signed: other root keys (raw public, hex) if given, new keys for the online roles `renew`.

    Raises `BadInput` for what makes no root, for fewer root keys than must sign now if no threshold is given, and
    where new keys would be sealed with another passphrase than those in force.
    """
    before = newest(node)
    roles = {
        role: ([before.keys[each] for each in keys.key_ids], keys.threshold) for role, keys in before.roles.items()
    }
    held, needed = roles[KeyRole.ROOT]
    if threshold is None and 0 < len(root_keys) < needed:
        raise BadInput(
            f"these are fewer root keys than the {needed} that must sign now",
            field="--key",
            remedy="give more keys, or say with --threshold how many must sign",
        )
    roles[KeyRole.ROOT] = (root_keys or held, needed if threshold is None else threshold)
    renewed = list(renew)
    if set(renewed) - set(ONLINE):
        raise BadInput(
            "not a role that gets a new key here",
            field="--renew",
            remedy="name release, freshness or log; other root keys are given with --key",
        )
    if renewed:
        _check_opened(node, before)
    for role in map(KeyRole, renewed):
        key = Ed25519PrivateKey.generate()
        _keep_key(node, role, key, keyring.passphrase_of(node.keys))
        roles[role] = ([_public(key)], 1)
    try:
        return _root(before.node, before.version + 1, now, roles)
    except (ValueError, DuplicateKey):
        raise BadInput(
            "these keys and this threshold do not make a root",
            field="root",
            remedy="give distinct public keys, and a threshold that is not above their number",
        ) from None


def add_signature(document: bytes, signatures: bytes | None, key: Ed25519PrivateKey) -> bytes:
    """The signatures of a root document with one more: what is done offline."""
    Root.from_bytes(document)
    new = sign(Kind.ROOT, document, [key]).signatures
    old = Signatures.from_bytes(signatures).signatures if signatures else ()
    kept = tuple(each for each in old if each.key_id != new[0].key_id)
    return Signatures(signatures=(*kept, *new)).to_bytes()


def install(node: Node, document: bytes, signatures: bytes, now: int) -> Root:
    """Make a signed root the node's newest. Raises a `VerificationFailure` unless old and new thresholds signed and it
    has not ended, and `BadInput` unless one passphrase opens the online keys of both.

    Releases that are out are first signed by the new release key too, so that a stop at any point leaves every
    release valid under the root that is in force. No release is approved meanwhile.
    """
    with folder.locked(node.lock):
        return _install(node, document, signatures, now)


def _install(node: Node, document: bytes, signatures: bytes, now: int) -> Root:
    before = newest(node)
    if Root.from_bytes(document).version <= before.version:  # whoever signed it
        raise Rollback(f"version {before.version} is in force already", field="root", remedy=_IN_FORCE)
    try:
        root = rotate(before, document, signatures)
    except VerificationFailure as error:  # its own remedy is for who fetches
        remedy = _REMEDIES.get(type(error), _PROPOSE_AGAIN)
        raise type(error)(error.problem, field=error.field, remedy=remedy) from error
    if now >= root.expires:
        remedy = f"set the clock if it is wrong now; else {_PROPOSE_AGAIN}"
        raise Expired(f"version {root.version} ended {root.last_day}", field="root", remedy=remedy)
    for role in ONLINE:
        if not _here(node, root, role):
            raise Unreachable(f"the new {role} key is not here", field=str(node.keys), remedy=_PROPOSE_AGAIN)
    for each in (before, root):
        _check_opened(node, each)
    for path in _here(node, root, KeyRole.RELEASE):
        _sign_releases(node, keyring.read(path, keyring.passphrase_of(node.keys)))
    _keep(node, root.version, document, signatures)
    current = {_key_path(node, role, each) for role in KeyRole for each in root.roles[role].key_ids}
    for path in node.keys.iterdir():
        if _KEY_NAME.fullmatch(path.name) and path not in current:  # a file of another name is a person's own
            path.unlink()
    return root


def _check_opened(node: Node, root: Root) -> None:
    """Raises `BadInput` unless the node's passphrase opens every online key of `root` that is here.

    New keys under a holder's passphrase would take the place of those with which the node can serve.
    """
    passphrase = keyring.passphrase_of(node.keys)
    try:
        for role in ONLINE:
            for path in _here(node, root, role):
                _opened(path, role, passphrase)
    except WrongPassphrase as error:
        remedy = f"unset a holder's {keyring.VARIABLE}, or give the node's passphrase; then propose a root again"
        raise BadInput(error.problem, field=error.field, remedy=remedy) from error


def _opened(path: Path, role: KeyRole, passphrase: bytes) -> Ed25519PrivateKey:
    try:
        return keyring.read(path, passphrase)
    except WrongPassphrase:
        raise
    except BadInput as error:
        remedy = f"{error.remedy}, or remove it and {_renewed(role)}"
        raise BadInput(error.problem, field=error.field, remedy=remedy) from error


def _renewed(role: KeyRole) -> str:
    return f"renew its role with `root propose --renew {role}`"


def _here(node: Node, root: Root, role: KeyRole) -> list[Path]:
    """The private keys of a role that are at this node."""
    paths = [_key_path(node, role, identifier) for identifier in root.roles[role].key_ids]
    return [path for path in paths if path.is_file()]


def _sign_releases(node: Node, key: Ed25519PrivateKey) -> None:
    for version in release.versions(node):
        if release.standing(node, version).state not in SERVABLE:
            continue
        path = node.release(version) / SIGNATURES
        remedy = release.restore_or_deny(version)
        with folder.intact(path, remedy):
            old = Signatures.from_bytes(folder.read(path, remedy)).signatures
        new = sign(Kind.MANIFEST, servable.read_manifest(node, version).to_bytes(), [key]).signatures
        if new[0] not in old:
            folder.write(path, Signatures(signatures=(*old, *new)[-LIMITS.signatures :]).to_bytes())


def _root(name: str, version: int, now: int, roles: Mapping[KeyRole, tuple[list[str], int]]) -> Root:
    identifiers = {key: hashlib.sha256(bytes.fromhex(key)).hexdigest() for keys, _ in roles.values() for key in keys}
    return Root(
        node=name,
        version=version,
        expires=now + _LIFETIME,
        keys={identifier: key for key, identifier in identifiers.items()},
        roles={
            role: RoleKeys(key_ids=tuple(identifiers[key] for key in keys), threshold=threshold)
            for role, (keys, threshold) in roles.items()
        },
    )


def _keep(node: Node, version: int, document: bytes, signatures: bytes) -> None:
    folder.write(node.roots / f"{version}.sig", signatures)
    folder.write(node.roots / f"{version}.json", document)


def _keep_key(node: Node, role: KeyRole, key: Ed25519PrivateKey, passphrase: bytes) -> None:
    keyring.create(_key_path(node, role, key_id(key.public_key())), key, passphrase)


def _key_path(node: Node, role: KeyRole, identifier: str) -> Path:
    return node.keys / f"{role}-{identifier[:16]}.key"


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
