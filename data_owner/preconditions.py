"""What must hold of a node before a step goes on: its settings, its records and its budget are those that it was made
with. Refused where it does not."""

from __future__ import annotations

import hashlib

from data_owner import release, roots
from data_owner.node import Node
from data_owner.privacy.budget import Budget
from data_owner.settings import OwnerSettings
from shared import folder
from shared.errors import PolicyRefusal, Unreachable, VerificationFailure


def check_name(node: Node, settings: OwnerSettings) -> None:
    """Raises `PolicyRefusal` if owner.toml names the node otherwise than its root: no consumer would take its word."""
    if roots.newest(node).node != settings.name:
        raise PolicyRefusal(
            "the node's root document has another name", field="name", remedy="put the old name back into owner.toml"
        )


def check_unchanged(node: Node, version: int, settings: OwnerSettings) -> None:
    """Raises `PolicyRefusal` if what the release was trained on or by is no longer what is there."""
    if release.status(node, version).settings_sha256 != settings_digest(node, settings):
        raise PolicyRefusal(
            "owner.toml or the records changed since this release was trained",
            field="owner.toml",
            remedy="train again",
        )


def check_bounded(node: Node, settings: OwnerSettings) -> None:
    """Raises `PolicyRefusal` if something left this node without a budget: no sum of what was charged covers that. And
    the other way round, if something left under a budget that owner.toml no longer has.

    Raises `Unreachable` if the budget's ledger has forgotten a charge that a release was made from, or if what tells
    either is gone.
    """
    charges = Budget(node.budget).charges()
    if settings.privacy is None:
        if charges and any(release.approved(node).values()):
            raise PolicyRefusal(
                "a release under a privacy budget was approved here, and it counts on all that this node lets out",
                field="privacy",
                remedy="put [privacy] back into owner.toml, or begin a new node",
            )
        return
    if not all(release.approved(node).values()):
        raise PolicyRefusal(
            "a release without a privacy budget was approved here, so none can cover all that this node let out",
            field="privacy",
            remedy="begin a new node with --epsilon",
        )
    known = max((release.status(node, version).charges for version in release.versions(node)), default=0)
    if len(charges) < known:
        raise Unreachable(
            "the budget's ledger is older than a release made under it",
            field=str(node.budget),
            remedy="restore the newest copy of it",
        )


def check_teacher(node: Node, version: int) -> None:
    """Raises `VerificationFailure` if encoder and history are of another training: one that was cut off left them."""
    kept = release.status(node, version).teacher_sha256
    if kept and kept != teacher_digest(node):
        raise VerificationFailure(
            "the encoder and the history are not of this release", field=str(node.encoder.parent), remedy="train again"
        )


def teacher_digest(node: Node) -> str:
    """SHA-256 of the encoder and the history of training, hex."""
    parts = (folder.read(path, "train again") for path in (node.encoder, node.history))
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def settings_digest(node: Node, settings: OwnerSettings) -> str:
    """What a trained teacher depends on: columns, training settings, the minimum count, and the records or, under a
    budget, what was drawn from them; hex."""
    parts = [
        settings.model_dump_json(exclude={"policy"}).encode(),
        f"{settings.policy.minimum_count} {settings.policy.small_groups}".encode(),
        folder.read(node.records, "restore records.parquet from its backup"),
    ]
    if settings.privacy is not None:
        drawn = node.microdata(microdata_key(node, settings))
        parts.append(drawn.read_bytes() if drawn.is_file() else b"")
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def microdata_key(node: Node, settings: OwnerSettings) -> str:
    """What microdata is of: columns, the unit of privacy and the records, hex. It stays so whatever the budget is."""
    unit = {"person", "rows_per_person"}
    parts = (
        settings.model_dump_json(include={"columns": True, "positive": True, "privacy": unit}).encode(),
        folder.read(node.records, "restore records.parquet from its backup"),
    )
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def policy_id(settings: OwnerSettings) -> str:
    """SHA-256 of the policy, hex."""
    return hashlib.sha256(settings.policy.model_dump_json().encode()).hexdigest()
