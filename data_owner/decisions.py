"""What people decide about a release that was measured, and the page that they read first: steps over a node that
neither train nor measure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data_owner import findings, release, roots, servable
from data_owner.digests import policy_id
from data_owner.ledger import Ledger, new_entry
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.people import named, reasoned
from data_owner.preconditions import check_apart, check_bounded, check_name, check_unchanged
from data_owner.privacy.statement import privacy_statement
from data_owner.records.records_file import RecordsFile
from data_owner.release_status import NEXT, State
from protocol.entry import Override
from protocol.manifest import Manifest
from protocol.root import KeyRole
from shared.clock import now
from shared.errors import BadInput, Fair4FreeError, PolicyRefusal


def approve(path: Path | str, *, by: str) -> Manifest:
    """Approve the newest release: sign it and allow it to be served.

    Raises `PolicyRefusal` where the gate refused it, attacks block it, what was measured has changed or too few records
    differ from those of a release approved before.
    """
    node = Node.open(path)
    settings = read_settings(node)
    check_name(node, settings)
    version = release.latest(node)
    check_unchanged(node, version, settings)
    check_bounded(node, settings)
    privacy = privacy_statement(node, settings)
    if settings.privacy is not None:
        measured = release.status(node, version).state is State.MEASURED
        if measured and findings.card(node, version).privacy != privacy:
            raise PolicyRefusal(
                "the card states another privacy guarantee", field="privacy", remedy="run gate again, then approve"
            )
    records = RecordsFile(node.records)
    check_apart(node, settings, records, version)  # reads the records before others wait for the lock
    manifest = release.approve(
        node,
        version,
        name=settings.name,
        by=by,
        key=lambda: roots.signing_key(node, KeyRole.RELEASE),
        compared=lambda: check_apart(node, settings, records, version),
        policy_id=policy_id(settings),
        privacy=privacy,
        days=settings.policy.release_days,
        now=now(),
    )
    _write_page(node, version)
    return manifest


def override(path: Path | str, *, by: str, reason: str) -> frozenset[str]:
    """Let the newest release out over what attacks found; it takes two people. Returns who did so far.

    It holds for what attacks have found now, and not after another gate or attack finds something else.
    Raises `PolicyRefusal` where nothing blocks it, or if this person did already.
    """
    node = Node.open(path)
    version = release.latest(node)
    before = release.status(node, version)
    if before.state is not State.MEASURED or not before.exceeded:
        raise PolicyRefusal(
            "no attack blocks this release: there is nothing to override", field="release", remedy=NEXT[before.state]
        )
    by, reason = named(by), reasoned(reason)
    entry = new_entry(Override, at=now(), by=by, version=version, findings=before.findings, reason=reason)
    with Ledger(node.ledger) as log:
        if entry.person in log.overrides(version, before.findings):
            raise PolicyRefusal(
                "this person has overridden it already", field="--by", remedy="let another person do it"
            )
        log.append(entry)
        people = log.overrides(version, before.findings)
    _write_page(node, version)
    return people


@dataclass(frozen=True)
class Denied:
    """Which release was denied, which others with it since they are the same bytes, and which may still be served."""

    version: int
    same: tuple[int, ...]
    servable: tuple[int, ...]


def deny(path: Path | str, *, by: str, reason: str, version: int | None = None) -> Denied:
    """Deny a release for good, the newest unless named, and every other that is out and is the same byte for byte.

    Raises `BadInput` if there is none of that number, or if none is named and another than the newest may be served:
    that may be the one to recall. Raises `PolicyRefusal` if there is no release, or its denial is logged already.
    """
    node = Node.open(path)
    chosen = _known(node, version)
    others = [str(each) for each in servable.manifests(node, now()) if each != chosen] if version is None else []
    if others:
        raise BadInput(
            f"release {chosen} is the newest, and an older one may be served: {', '.join(others)}",
            field="--version",
            remedy=f"name the one to deny: {', '.join([*others, str(chosen)])}",
        )
    same = release.deny(node, chosen, by=by, reason=reason, now=now())
    _write_page(node, chosen)
    return Denied(chosen, same, tuple(servable.manifests(node, now())))


def write_privacy_report(path: Path | str, *, version: int | None = None) -> Path:
    """Write what a privacy officer reads about a release, the newest unless named. Returns the page.

    Raises `BadInput` if there is none of that number, `PolicyRefusal` if it was not attacked or its gate was cut off.
    """
    node = Node.open(path)
    chosen = _known(node, version)
    found = findings.last(node, chosen)
    if found is None:
        raise PolicyRefusal("this release has not been attacked", field="release", remedy="run gate first")
    findings.write_page(node, chosen, found)
    return node.privacy_report


def _write_page(node: Node, version: int) -> None:
    """Say on the privacy officer's page what was decided. It is decided, whether or not a page can say so: one that
    would still say otherwise goes."""
    try:
        found = findings.last(node, version)
        if found is not None:
            findings.write_page(node, version, found)
    except Fair4FreeError:
        with suppress(OSError):
            node.privacy_report.unlink(missing_ok=True)
            node.privacy_figures.unlink(missing_ok=True)


def _known(node: Node, version: int | None) -> int:
    """The release that is named, the newest if none is."""
    newest = release.latest(node)
    if version is not None and not node.release(version).is_dir():
        raise BadInput("there is no such release", field="--version", remedy=f"name another: the newest is {newest}")
    return newest if version is None else version
