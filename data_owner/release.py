"""A release on its way out: draft -> measured -> approved -> served, or denied with a reason.

Nothing is served that was not approved by a named person, and nothing can be approved that was not measured and
found within the policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from data_owner.ledger import Ledger, new_entry
from data_owner.node import Node
from data_owner.release_status import NEXT, SERVABLE, State, Status, check_policy, step
from data_owner.settings import AttackLimits
from protocol.artefacts import PAYLOAD, SIGNATURES, TRAINED, Artefact, release_digest
from protocol.entry import Approval, Denial
from protocol.manifest import Digest, Manifest
from protocol.signing import Kind, sign
from shared import folder
from shared.card import Card
from shared.errors import PolicyRefusal, Unreachable

STATE = "state.json"


def versions(node: Node) -> list[int]:
    """All versions of the node, rising. Raises `Unreachable` where they may not be listed: `glob` would find none."""
    with folder.permitted():
        places = node.releases.iterdir() if node.releases.exists() else ()
        return sorted(int(path.name) for path in places if path.name.isdecimal() and (path / STATE).is_file())


def latest(node: Node) -> int:
    """The newest version. Raises `PolicyRefusal` when there is none."""
    found = versions(node)
    if not found:
        raise PolicyRefusal("there is no release yet", field="release", remedy="run `fair4free-owner train` first")
    return found[-1]


def status(node: Node, version: int) -> Status:
    path, remedy = node.release(version) / STATE, restore_or_deny(version)
    try:
        return Status.model_validate_json(folder.read(path, remedy))
    except ValidationError:
        raise Unreachable("not the state of a release", field=str(path), remedy=remedy) from None


def standing(node: Node, version: int) -> Status:
    """Where it stands by the egress log, which outranks the file: a copy of that may be older than a denial.

    Where the file cannot be read, what the log and the three that training made still say of it.
    """
    return _standing(node, version, Ledger.denied(node.ledger))


def _standing(node: Node, version: int, denied: frozenset[int]) -> Status:
    found = written(node, version)
    if found is None:
        made = ""
        with suppress(Unreachable):
            made = release_digest(trained_artefacts(node, version))
        with Ledger(node.ledger) as log:
            found = Status(state=State.APPROVED if version in log.approved() else State.DRAFT, at=0, made_sha256=made)
    return found.model_copy(update={"state": State.DENIED}) if version in denied else found


def written(node: Node, version: int) -> Status | None:
    """Its status as the file has it, None where that cannot be read."""
    with suppress(Unreachable):
        return status(node, version)
    return None


def charges_of(node: Node, version: int) -> int:
    """How many the privacy budget's ledger held when it was drafted: none where no budget bounds it.

    Raises `Unreachable` if its state is gone or damaged, which alone says so, also once it is denied.
    """
    try:
        return status(node, version).charges
    except Unreachable as error:
        raise Unreachable(
            "the state of a release is gone or damaged: nothing says whether a privacy budget bounds it",
            field=error.field,
            remedy="restore it from its backup, or begin a new node with --epsilon",
        ) from error


def approved(node: Node) -> dict[int, int]:
    """Versions that were approved, if only for a time, each with its charges: none where no budget bounds it."""
    with Ledger(node.ledger) as log:
        found = log.approved()
    return {version: charges_of(node, version) for version in found}


def write_draft(
    node: Node,
    artefacts: Mapping[Artefact, bytes],
    settings_sha256: str,
    now: int,
    *,
    teacher_sha256: str,
    rows: bytes,
    charges: int,
) -> int:
    """Add a draft of decoder, statistics and schema made under the given settings. Returns its version.

    `rows` tells the records it was trained on apart from others, empty under a budget. They are kept before it is
    there.
    """
    first = Status(
        state=State.DRAFT,
        at=now,
        settings_sha256=settings_sha256,
        made_sha256=release_digest(artefacts),
        teacher_sha256=teacher_sha256,
        rows_sha256=hashlib.sha256(rows).hexdigest() if rows else "",
        charges=charges,
    )
    files = {kind.filename: data for kind, data in artefacts.items()}
    with folder.locked(node.lock):
        with Ledger(node.ledger) as log:  # knows versions whose folders are gone
            version = max([*versions(node), *log.decided()], default=0) + 1
        if rows:
            folder.write(node.rows(version), rows, folder.PRIVATE)
        folder.create(node.release(version), {**files, STATE: _encode(first)})
    return version


def record_measured(
    node: Node,
    version: int,
    card: bytes,
    records: int,
    failures: tuple[str, ...],
    policy_id: str,
    now: int,
    *,
    exceeded: tuple[str, ...],
    findings: str,
    limits: AttackLimits,
    earlier: str | None = None,
) -> Status:
    """Keep the card, then what the gate found under which policy. `records` is the number on the card, `findings` the
    digest of what attacks found, `limits` of that policy judged them; `earlier` stays as it was unless it is given."""
    found: dict[str, object] = {"policy_id": policy_id, "records": records, "exceeded": exceeded}
    found |= {"findings": findings, "limits": limits}
    found |= {} if earlier is None else {"earlier": earlier}
    found["card_sha256"] = hashlib.sha256(card).hexdigest()
    with folder.locked(node.lock):
        after = step(status(node, version), State.MEASURED, at=now, failures=failures).model_copy(update=found)
        folder.write(node.release(version) / Artefact.CARD.filename, card)
        return _keep(node, version, after)


def approve(
    node: Node,
    version: int,
    *,
    name: str,
    by: str,
    key: Callable[[], Ed25519PrivateKey],
    compared: Callable[[], str],
    policy_id: str,
    privacy: str,
    days: int,
    now: int,
) -> Manifest:
    """Build and sign the manifest, log the approval, then mark the release approved.

    `key` is asked for under the lock, under which root documents change too. So is `compared`, which says how the
    records compare with those of what was approved before, or refuses: no other is approved in between. Raises
    `PolicyRefusal`, `BadInput` without a name and `Unreachable` where a file is gone.
    """
    with folder.locked(node.lock), Ledger(node.ledger) as log:
        before = status(node, version)
        people = log.overrides(version, before.findings)
        after = step(before, State.APPROVED, at=now, by=by, overridden_by=people)
        check_not_denied(node, version)
        check_policy(before, policy_id)
        artefacts = check_whole(node, version)
        after = after.model_copy(update={"earlier": compared()})
        signing_key = key()
        place = node.release(version)
        if before.exceeded:
            card = Card.from_bytes(artefacts[Artefact.CARD])
            artefacts[Artefact.CARD] = card.model_copy(update={"overridden": True}).to_bytes()
            folder.write(place / Artefact.CARD.filename, artefacts[Artefact.CARD])
        digests = {kind: Digest.of(artefacts[kind]) for kind in PAYLOAD}
        manifest = Manifest(
            node=name,
            version=version,
            created=now,
            expires=now + days * 86_400,
            schema_id=digests[Artefact.SCHEMA].sha256,
            policy_id=policy_id,
            privacy=privacy,
            artefacts=digests,
        )
        signed = manifest.to_bytes()
        folder.write(place / SIGNATURES, sign(Kind.MANIFEST, signed, [signing_key]).to_bytes())
        folder.write(place / Artefact.MANIFEST.filename, signed)
        log.append(
            new_entry(
                Approval,
                at=now,
                by=after.by,
                version=version,
                manifest=Digest.of(signed),
                policy_id=policy_id,
                artefacts=digests,
                records=before.records,
            )
        )
        _keep(node, version, after)
        return manifest


def findings_digest(found: bytes, policy_id: str) -> str:
    """Of what attacks found, under the policy that judged it: an override holds for both."""
    return hashlib.sha256(found + policy_id.encode()).hexdigest()


def trained_artefacts(node: Node, version: int) -> dict[Artefact, bytes]:
    """The three that training made, as they are kept."""
    return {kind: folder.read(node.release(version) / kind.filename, "train again") for kind in TRAINED}


def same(node: Node, version: int) -> dict[int, Status]:
    """The other versions of the same bytes: training that changed nothing makes them anew, and a manifest differs by
    its version alone."""
    denied = Ledger.denied(node.ledger)
    made = _standing(node, version, denied).made_sha256
    others = {other: _standing(node, other, denied) for other in versions(node) if other != version}
    return {other: each for other, each in others.items() if each.made_sha256 == made != ""}


def check_not_denied(node: Node, version: int) -> None:
    """Raises `PolicyRefusal` if it was denied, or the same under another version."""
    if standing(node, version).state is State.DENIED:
        raise PolicyRefusal("the release was denied", field=f"release {version}", remedy=NEXT[State.DENIED])
    denied = [other for other, each in same(node, version).items() if each.state is State.DENIED]
    # of one whose files are damaged the log still knows what was approved
    made = {kind: Digest.of(data) for kind, data in trained_artefacts(node, version).items()}
    with Ledger(node.ledger) as log:
        denied += [
            entry.version
            for entry in log.approvals()
            if log.is_denied(entry.version) and all(entry.artefacts[kind] == made[kind] for kind in TRAINED)
        ]
    if denied:
        raise PolicyRefusal(
            f"training gave again, byte for byte, release {denied[0]}, which was denied",
            field="release",
            remedy="change what was wrong with it, or the seed in owner.toml, and train again",
        )


def check_whole(node: Node, version: int) -> dict[Artefact, bytes]:
    """The payload of a measured release. Raises `PolicyRefusal` unless it is what its state was written with,
    `Unreachable` where a file of it is gone.

    A gate that was cut off between them may have found more than the state says; files of another release may be worse.
    """
    before, made = status(node, version), trained_artefacts(node, version)
    if before.made_sha256 != release_digest(made):
        raise PolicyRefusal(
            "the decoder, statistics or schema are not what was trained", field="release", remedy="train again"
        )
    card = folder.read(node.release(version) / Artefact.CARD.filename, "run gate again")
    if before.exceeded:  # as it was measured, also if an approval was cut off after it was written
        card = Card.from_bytes(card).model_copy(update={"overridden": False}).to_bytes()
    found = findings_digest(folder.read(node.attacks(version), "run gate again"), before.policy_id)
    if (before.card_sha256, before.findings) != (hashlib.sha256(card).hexdigest(), found):
        raise PolicyRefusal("the last gate or attack was cut off", field="release", remedy="run gate again")
    return {**made, Artefact.CARD: card}


def deny(node: Node, version: int, *, by: str, reason: str, now: int) -> tuple[int, ...]:
    """Take a release out for good, also one that is being served, and every other that is out and is the same byte for
    byte. Then log each. Returns the others.

    Denying it again logs denials that were interrupted before they were logged, and is refused once all are. A state
    that cannot be read stays as it is: nobody is served by it, and a backup of it may still tell its charges.
    """
    with folder.locked(node.lock), Ledger(node.ledger) as log:

        def unlogged(each: int, of: Status) -> bool:
            return of.state is State.DENIED and not log.is_denied(each)

        others = same(node, version)
        found = {each: of for each, of in others.items() if of.state in SERVABLE or unlogged(each, of)}
        # logged last: as long as another is not, it can be denied again; so can an older copy of its state
        found[version] = written(node, version) or standing(node, version)
        denied = {
            each: of if unlogged(each, of) else step(of, State.DENIED, at=now, by=by, reason=reason)
            for each, of in found.items()
        }
        entries = [new_entry(Denial, at=of.at, by=of.by, version=each, reason=of.reason) for each, of in denied.items()]
        for each, of in denied.items():
            if of is not found[each] and written(node, each) is not None:
                _keep(node, each, of)
        for entry in entries:
            log.append(entry)
    return tuple(each for each in denied if each != version)


def mark_served(node: Node, version: int, now: int) -> None:
    if status(node, version).state is State.APPROVED:
        with folder.locked(node.lock):
            before = status(node, version)
            if before.state is State.APPROVED:
                _keep(node, version, step(before, State.SERVED, at=now, by=before.by))


def _keep(node: Node, version: int, after: Status) -> Status:
    folder.write(node.release(version) / STATE, _encode(after))
    return after


def _encode(value: Status) -> bytes:
    return value.model_dump_json(indent=2).encode() + b"\n"


def restore_or_deny(version: int) -> str:
    """What a person does where a file of a release is gone or damaged."""
    return f"restore it from its backup, or `fair4free-owner deny --version {version}`"
