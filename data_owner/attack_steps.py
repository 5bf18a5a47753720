"""What an owner does about attacks beyond those that every gate makes: train for stronger ones, let a release out over
one that succeeded, report to a privacy officer. Steps over a node, like those of `data_owner.steps`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_owner import findings, release
from data_owner.attack_gate import exceeded, verdicts
from data_owner.attacks import battery
from data_owner.attacks.battery import Battery
from data_owner.fitting import artefacts, fit
from data_owner.node import Node
from data_owner.steps import (
    Progress,
    check_unchanged,
    now,
    policy_id,
    prepare,
    quiet,
    read_settings,
    trained_artefacts,
)
from protocol.artefacts import Artefact
from shared import folder
from shared.card import AttackVerdict
from shared.errors import BadInput, PolicyRefusal

SHADOWS = 16
"""Shadow releases unless told otherwise: half of them with each record, half without."""


@dataclass(frozen=True)
class Attacked:
    """What all attacks found, in a word each, and what is beyond the policy."""

    battery: Battery
    verdicts: tuple[AttackVerdict, ...]
    exceeded: tuple[str, ...]


def attack(path: Path, *, shadows: int = SHADOWS, progress: Progress = quiet) -> Attacked:
    """Add to the newest measured release the attacks that train: `shadows` shadow releases and one with canaries.

    A release that is already approved or served is attacked too; it then stays what it is until a person denies it.
    """
    if shadows < 2 or shadows % 2:
        raise BadInput("shadow releases come in pairs", field="--shadows", remedy="give an even number from 2")
    node = Node.open(path)
    settings = read_settings(node)
    version = release.latest(node)
    check_unchanged(node, version)
    before, status = findings.last(node, version), release.status(node, version)
    if before is None or status.state in (release.State.DRAFT, release.State.DENIED):
        raise PolicyRefusal(
            f"a release that is {status.state} is not attacked", field="release", remedy="run gate first"
        )
    if status.policy_id != policy_id(settings):
        raise PolicyRefusal(
            "the policy changed since this release was measured", field="owner.toml", remedy="run gate again"
        )
    prepared = prepare(node, settings)
    if prepared.schema.image is not None:
        raise PolicyRefusal(
            "attacks that train are made on tables alone", field="release", remedy="rely on those that gate makes"
        )

    def trained(records: pd.DataFrame, seed: int) -> dict[Artefact, bytes]:
        training = settings.training.model_copy(update={"seed": seed})
        return artefacts(prepared.schema, fit(dataclasses.replace(prepared, training=records), training))

    found = battery.with_training(
        before,
        trained_artefacts(node, version),
        trained,
        prepared.training,
        prepared.held_out,
        shadows,
        settings.training.seed,
        progress,
    )
    limits = settings.policy.attacks
    if status.state is release.State.MEASURED:
        findings.keep(node, version, findings.card(node, version), found, limits, policy_id(settings), now())
    else:
        folder.write(node.attacks(version), found.to_bytes(), folder.PRIVATE)
    findings.write_page(node, version, found, limits)
    return Attacked(found, verdicts(found, limits), exceeded(found, limits))


def override(path: Path, *, by: str, reason: str) -> frozenset[str]:
    """Let the newest release out over an attack that succeeded; it takes two people. Returns who did so far."""
    node = Node.open(path)
    return release.override(node, release.latest(node), by=by, reason=reason, now=now())


def write_privacy_report(path: Path, *, version: int | None = None) -> Path:
    """Write what a privacy officer reads about a release, the newest unless named. Returns the page."""
    node = Node.open(path)
    version = version or release.latest(node)
    found = findings.last(node, version)
    if found is None:
        raise PolicyRefusal("this release has not been attacked", field="release", remedy="run gate first")
    findings.write_page(node, version, found, read_settings(node).policy.attacks)
    return node.privacy_report
