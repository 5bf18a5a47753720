"""What must hold of a node before a step goes on: its settings, its records and its budget are those that it was made
with, and nothing left it that tells of a few records beside these. Refused where it does not."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from data_owner import release, roots
from data_owner.digests import settings_digest, teacher_digest
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.privacy.budget import Budget
from data_owner.records.differencing import Comparison, Rows, in_words
from data_owner.records.records_file import RecordsFile
from data_owner.settings import OwnerSettings
from shared import folder
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure

WITH_A_BUDGET = "of a table begin a new node with a privacy budget (--epsilon)"


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
    if release.status(node, version).teacher_sha256 != teacher_digest(node):
        raise VerificationFailure(
            "the encoder and the history are not of this release", field=str(node.encoder.parent), remedy="train again"
        )


def check_apart(node: Node, settings: OwnerSettings, records: RecordsFile, own: int | None = None) -> str:
    """How the records compare with those of every release that was approved before, denied since or not, in words.

    `own`: the release that is to follow them, of whose rows digests must be kept too. Each is compared in its own
    columns, so that what owner.toml leaves out or calls otherwise by now hides nothing. A budget covers all releases
    together: under one there is nothing to say.

    Raises `PolicyRefusal` if they are those of none of them and not the minimum count more or fewer than each, or
    cannot be read as they were then, and `Unreachable` where what was kept of a release is gone or damaged.
    """
    if settings.privacy is not None:
        return ""
    if own is not None:
        _rows(node, own)  # damaged, they could not be held against later ones
    with Ledger(node.ledger) as log:
        kept = {version: _rows(node, version) for version in log.approved()}
    minimum_count = settings.policy.minimum_count
    compared = [_comparison(version, before, records) for version, before in kept.items()]
    few = [each.version for each in compared if not each.same and each.apart < minimum_count]
    if few and not any(each.same for each in compared):  # what the same records tell beside others is out already
        raise PolicyRefusal(
            f"others than those of release {few[0]}, which was approved before, but not {minimum_count} or more rows "
            "more or fewer: whoever has both may tell who left, came or was corrected",
            field="records",
            remedy=f"release the same records as then; or add people, or leave out others drawn at random, until there "
            f"are {minimum_count} rows more or fewer; or {WITH_A_BUDGET}",
        )
    return in_words(compared, minimum_count)


def _comparison(version: int, before: Rows, records: RecordsFile) -> Comparison:
    try:
        return Comparison.of(version, before, records.rows(before.view))
    except BadInput as error:
        raise PolicyRefusal(
            f"not as it was read for release {version}, which was approved before: nothing tells how many rows differ",
            field=error.field,
            remedy='put the column back as it was (kind = "exclude" in owner.toml keeps it from leaving), or '
            f"{WITH_A_BUDGET}",
        ) from None


def _rows(node: Node, version: int) -> Rows:
    """What is kept of the rows of a release."""
    path, state = node.rows(version), release.written(node, version)
    remedy = f"restore it from its backup, or {WITH_A_BUDGET}"
    data = folder.read(path, remedy)
    with suppress(BadInput):
        if state is None or state.rows_sha256 == hashlib.sha256(data).hexdigest():
            return Rows.from_bytes(data)
    raise Unreachable("is damaged, or of another release", field=str(path), remedy=remedy)
