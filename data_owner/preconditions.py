"""What must hold of a node before a step goes on: its settings, its records and its budget are those that it was made
with. Refused where it does not."""

from __future__ import annotations

from data_owner import release, roots
from data_owner.digests import settings_digest, teacher_digest
from data_owner.node import Node
from data_owner.privacy.budget import Budget
from data_owner.settings import OwnerSettings
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
    known = max((release.charges_of(node, version) for version in release.versions(node)), default=0)
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
