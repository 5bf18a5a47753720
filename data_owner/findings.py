"""What attacks found, on disk: in a file of the owner's, a word each on the card, in the release's state, and on the
page that a privacy officer reads."""

from __future__ import annotations

from contextlib import suppress

from data_owner import release
from data_owner.attack_gate import exceeded, missing, verdicts
from data_owner.attacks.battery import Battery
from data_owner.digests import policy_id
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.release_gate import failures
from data_owner.release_status import Status
from data_owner.reports.privacy_report import Subject, privacy_report
from data_owner.settings import OwnerSettings
from protocol.artefacts import Artefact
from protocol.entry import parse_entry
from shared import folder
from shared.card import Card
from shared.clock import now
from shared.errors import BadInput, PolicyRefusal


def keep(
    node: Node,
    version: int,
    card: Card,
    found: Battery,
    settings: OwnerSettings,
    at: int,
    *,
    earlier: str | None = None,
) -> Status:
    """Keep findings, a card that says them in a word each, and all that the gate has against the release under the
    policy of these settings. `earlier`: see `record_measured`."""
    limits, policy = settings.policy.attacks, policy_id(settings)
    folder.write(node.attacks(version), found.to_bytes(), folder.PRIVATE)
    card = card.model_copy(update={"attacks": verdicts(found, limits), "overridden": False})
    return release.record_measured(
        node,
        version,
        card.to_bytes(),
        card.records,
        (*failures(card.checks), *missing(found, limits)),
        policy,
        at,
        exceeded=exceeded(found, limits),
        findings=release.findings_digest(found.to_bytes(), policy),
        limits=limits,
        earlier=earlier,
    )


def last(node: Node, version: int) -> Battery | None:
    """What was found on a release before, None if it was not attacked."""
    path = node.attacks(version)
    return Battery.from_bytes(folder.read(path, "run gate again")) if path.is_file() else None


def of_training(node: Node, digest: str) -> Battery | None:
    """What attacks that train found on a release of that digest, under whatever version: the same training gives the
    same release again, and what is known of it. Of several batteries the one with the most shadow releases."""
    found = []
    for version in release.versions(node):
        with suppress(BadInput):  # damaged: a gate finds anew what needs no training
            found.append(last(node, version))
    trained = [each for each in found if each is not None and each.release == digest and each.shadows]
    return max(trained, key=lambda each: each.shadows, default=None)


def card(node: Node, version: int) -> Card:
    return Card.from_bytes(folder.read(node.release(version) / Artefact.CARD.filename, "run gate again"))


def rehearsed(node: Node, digest: str) -> Battery | None:
    """What a rehearsal of the release with that digest found on people, under whichever version, if there was one."""
    for version in release.versions(node):
        path = node.rehearsal(version)
        found = Battery.from_bytes(folder.read(path, "run attack again")) if path.is_file() else None
        if found is not None and found.release == digest:
            return found
    return None


def write_page(node: Node, version: int, found: Battery) -> None:
    """Write the privacy officer's page and its figures, for the owner's eyes, judged by the policy it was measured
    under. Raises `PolicyRefusal` if it was not."""
    status = release.status(node, version)
    if status.limits is None:  # findings are written before the state is
        raise PolicyRefusal("the gate was cut off before it was done", field="release", remedy="run gate again")
    files = {kind: node.release(version) / kind.filename for kind in Artefact}
    with Ledger(node.ledger) as log:
        entries = tuple(map(parse_entry, log.entries()))
    report = privacy_report(
        Subject(
            version=version,
            at=now(),
            status=status,
            card=card(node, version),
            battery=found,
            limits=status.limits,
            rehearsal=rehearsed(node, found.release),
            lengths={kind: file.stat().st_size for kind, file in files.items() if file.is_file()},
            entries=entries,
        )
    )
    folder.write(node.privacy_report, report.to_html().encode(), folder.PRIVATE)
    folder.write(node.privacy_figures, report.to_json().encode(), folder.PRIVATE)
