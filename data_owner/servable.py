"""Releases that are out: which may be served, what is wrong with others, and their bytes as they were approved."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from data_owner import release
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.release_status import SERVABLE, State
from protocol.artefacts import PAYLOAD, SIGNATURES, Artefact
from protocol.manifest import Manifest
from protocol.root import KeyRole, Root
from protocol.signing import Kind
from protocol.trust import TrustedRelease, verify_release
from shared import folder
from shared.errors import BadInput, Fair4FreeError, PolicyRefusal, VerificationFailure


class NotServed(BadInput):
    """A release that is not out, or no longer."""

    def __init__(self) -> None:
        super().__init__("there is no such release to serve", field="version", remedy="list the releases")


def manifests(node: Node, now: int) -> dict[int, Manifest]:
    """The releases that are out, in date and not from the future, by version, rising: `faults` says why others are not.

    Of their files only state and manifest are read.
    """
    found = {}
    denied = Ledger.denied(node.ledger)  # a state that was restored may be older than that
    for version in release.versions(node):
        if version in denied:
            continue
        with suppress(Fair4FreeError):
            manifest = _offered(node, version, now)
            if manifest is not None:
                found[version] = manifest
    return found


def read_manifest(node: Node, version: int) -> Manifest:
    """As it was written. Raises `Unreachable` where it is gone or damaged."""
    file, remedy = node.release(version) / Artefact.MANIFEST.filename, release.restore_or_deny(version)
    with folder.intact(file, remedy):
        return Manifest.from_bytes(folder.read(file, remedy))


def _offered(node: Node, version: int, now: int) -> Manifest | None:
    """The manifest of a release that is out and in date, None of another.

    Raises `Unreachable` where neither can be told, `PolicyRefusal` where no consumer accepts it yet.
    """
    if release.status(node, version).state not in SERVABLE:
        return None
    manifest = read_manifest(node, version)
    if manifest.is_from_the_future(now):
        raise PolicyRefusal(
            f"approved while the clock was ahead: no consumer accepts it before "
            f"{datetime.fromtimestamp(manifest.created, UTC):%Y-%m-%d %H:%M} UTC",
            field=f"release {version}",
            remedy="set the clock if it is wrong now; else run train, gate, approve, and leave this one undenied: "
            "a denial covers the same bytes",
        )
    return None if manifest.has_expired(now) else manifest


def faults(node: Node, now: int, root: Root) -> dict[int, Fair4FreeError]:
    """What is wrong with releases that are out, and with those of which nothing tells whether they are.

    Falling by version. Says nothing of what was denied, nor of one from the future once a newer one is whole.
    """
    found: dict[int, Fair4FreeError] = {}
    newer = False
    denied = Ledger.denied(node.ledger)
    for version in reversed(release.versions(node)):
        if version in denied:
            written = release.written(node, version)
            if written is not None and written.state is not State.DENIED:
                found[version] = PolicyRefusal(
                    "its state is an older copy: the egress log says that it was denied",
                    field=f"release {version}",
                    remedy=f"run `fair4free-owner deny --version {version}`",
                )
            continue
        try:
            load(node, version, now, root)
            newer = True
        except NotServed:
            continue
        except PolicyRefusal as error:
            if not newer:
                found[version] = error
        except Fair4FreeError as error:
            found[version] = error
    return found


def load(node: Node, version: int, now: int, root: Root) -> tuple[bytes, bytes, TrustedRelease]:
    """Manifest, signatures and artefacts of a servable release, verified again from disk.

    Raises `NotServed` if it is not out or over, `PolicyRefusal` if it is from the future, `Unreachable` if a file
    cannot be read and `VerificationFailure` if one is not what was approved.
    """
    manifest = _offered(node, version, now) if version in release.versions(node) else None
    if manifest is None:
        raise NotServed
    place, remedy, signed = node.release(version), release.restore_or_deny(version), manifest.to_bytes()
    signatures = folder.read(place / SIGNATURES, remedy)
    artefacts = {kind: folder.read(place / kind.filename, remedy) for kind in PAYLOAD}
    try:
        root.check(KeyRole.RELEASE, Kind.MANIFEST, signed, signatures)
        return signed, signatures, verify_release(manifest, artefacts)
    except VerificationFailure as error:  # its own remedy is for who fetches
        raise VerificationFailure(f"{error.field}: {error.problem}", field=str(place), remedy=remedy) from error
