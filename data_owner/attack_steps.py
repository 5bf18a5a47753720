"""The attacks beyond those that every gate makes, which train: a step over a node, like those of `data_owner.steps`."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_owner import decisions, findings, release
from data_owner.attack_gate import exceeded, exceeded_on_people, verdicts
from data_owner.attacks.battery import SHADOWS, Battery
from data_owner.attacks.membership import Train
from data_owner.attacks.run import with_training
from data_owner.attacks.search import Released
from data_owner.digests import policy_id
from data_owner.learning.fitting import artefacts, fit, recipe
from data_owner.learning.teacher import default_settings
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.preconditions import check_unchanged
from data_owner.records.records_file import RecordsFile
from data_owner.release_status import State, check_policy
from data_owner.settings import OwnerSettings, PrivacySettings
from data_owner.steps import prepare
from protocol.artefacts import TRAINED, Artefact, release_digest
from shared import folder
from shared.card import AttackVerdict
from shared.clock import now
from shared.errors import BadInput, PolicyRefusal
from shared.progress import Progress, quiet


@dataclass(frozen=True)
class Attacked:
    """What all attacks found on a release, a word each, and what is beyond the policy. A rehearsal blocks nothing."""

    version: int
    battery: Battery
    verdicts: tuple[AttackVerdict, ...]
    exceeded: tuple[str, ...]
    is_rehearsal: bool = False


def attack(path: Path | str, *, shadows: int | None = None, progress: Progress = quiet) -> Attacked:
    """Add to the newest measured release the attacks that train: `shadows` shadow releases and one with canaries.

    What was trained is kept until the attack is done, so one that was stopped goes on where it was. With a budget the
    whole mechanism is rehearsed on people instead, and what is found stays off card and gate.
    A release that is already approved or served is attacked too; it then stays what it is until a person denies it.
    Raises `PolicyRefusal` for a release that cannot be attacked, and `Unreachable` while another attack runs on this
    node: what that finds could be written over.
    """
    if shadows is not None and (shadows < 2 or shadows % 2):
        raise BadInput("shadow releases come in pairs", field="--shadows", remedy="give an even number from 2")
    node = Node.open(path)
    with folder.locked(node.attack_lock, waits=False):
        return _attack(node, shadows, progress)


def _attack(node: Node, shadows: int | None, progress: Progress) -> Attacked:
    settings = read_settings(node)
    count = SHADOWS if shadows is None else shadows
    version, before, released = _attackable(node, settings, count)
    if settings.privacy is not None:
        if shadows is not None:
            raise BadInput(
                "with a budget no shadow releases are made: each would be a draw",
                field="--shadows",
                remedy="leave it out: the mechanism is rehearsed once, with canaries",
            )
        return _rehearse(node, version, released, settings, settings.privacy, progress)
    prepared = prepare(node, settings)
    if prepared.schema.image is not None:
        raise PolicyRefusal(
            "attacks that train are made on tables alone", field="release", remedy="rely on those that gate makes"
        )
    linked = Released.of(released).decoder.gap_links is not None  # a release made before gaps were has such shadows

    def trained(records: pd.DataFrame, seed: int) -> dict[Artefact, bytes]:
        training = settings.training.model_copy(update={"seed": seed})
        teacher = default_settings(prepared.schema)
        # of fewer records a group is smaller, and yet large where the release's is
        share = len(records) / len(prepared.training)
        teacher = dataclasses.replace(teacher, large_group=teacher.large_group * share, linked_gaps=linked)
        return artefacts(prepared.schema, fit(dataclasses.replace(prepared, training=records), training, teacher))

    found = with_training(
        before,
        released,
        _kept(node.shadows(version), recipe(prepared.schema, settings.training), trained),
        prepared,
        count,
        settings.training.seed,
        progress,
    )
    if release.status(node, version).state is State.MEASURED:  # as it is after hours of training
        findings.keep(node, version, findings.card(node, version), found, settings, now())
    else:
        folder.write(node.attacks(version), found.to_bytes(), folder.PRIVATE)
    shutil.rmtree(node.shadows(version), ignore_errors=True)
    findings.write_page(node, version, found)
    limits = settings.policy.attacks
    return Attacked(version, found, verdicts(found, limits), exceeded(found, limits))


def _attackable(node: Node, settings: OwnerSettings, shadows: int) -> tuple[int, Battery, dict[Artefact, bytes]]:
    """The newest release, what its gate found and what training made of it. Raises unless both belong together and
    `shadows` shadow releases tell no less than was told before."""
    version = release.latest(node)
    check_unchanged(node, version, settings)
    before, status = findings.last(node, version), release.status(node, version)
    if before is None or status.state in (State.DRAFT, State.DENIED):
        raise PolicyRefusal(
            f"a release that is {status.state} is not attacked", field="release", remedy="run gate first"
        )
    check_policy(status, policy_id(settings))
    if status.state is State.MEASURED:
        release.check_whole(node, version)
    released = release.trained_artefacts(node, version)
    if before.release != release_digest(released):
        remedy = f"run gate again, or, once it is approved, restore {node.attacks(version)} from its backup"
        raise PolicyRefusal("the findings are of another release", field="release", remedy=remedy)
    if shadows < before.shadows:
        raise BadInput(
            f"this release was attacked with {before.shadows} shadow releases, and fewer tell less",
            field="--shadows",
            remedy=f"give {before.shadows} or more",
        )
    return version, before, released


def _kept(place: Path, recipe: str, train: Train) -> Train:
    """`train`, with what it makes kept under `place` by recipe, records and seed."""

    def trained(records: pd.DataFrame, seed: int) -> dict[Artefact, bytes]:
        rows = pd.util.hash_pandas_object(records).to_numpy().tobytes()
        digest = hashlib.sha256(f"{recipe} {seed} ".encode() + rows).hexdigest()
        files = {kind: place / digest[:32] / kind.filename for kind in TRAINED}
        if not all(path.is_file() for path in files.values()):
            made = train(records, seed)
            for kind, path in files.items():
                folder.write(path, made[kind], folder.PRIVATE)
        return {kind: folder.read(path, "run attack again") for kind, path in files.items()}

    return trained


def _rehearse(
    node: Node,
    version: int,
    released: dict[Artefact, bytes],
    settings: OwnerSettings,
    privacy: PrivacySettings,
    progress: Progress,
) -> Attacked:
    from data_owner.privacy import microdata, rehearsal  # brings JAX, which nothing else needs

    digest = release_digest(released)
    if findings.rehearsed(node, digest) is not None:
        raise PolicyRefusal(
            "this release was rehearsed already, and each rehearsal draws anew: a second could hide the first",
            field="release",
            remedy="read privacy.html; what a later release is made from can be rehearsed again",
        )
    records, persons, asked = microdata.planned(
        RecordsFile(node.records), settings, privacy, microdata.charged(node, settings)
    )
    found = rehearsal.rehearse(records, persons, settings, asked, Released.of(released), privacy, progress)
    found = found.model_copy(update={"release": digest})
    folder.write(node.rehearsal(version), found.to_bytes(), folder.PRIVATE)
    decisions.write_privacy_report(node.folder, version=version)
    limits = settings.policy.attacks
    return Attacked(version, found, verdicts(found, limits), exceeded_on_people(found, limits), is_rehearsal=True)
