"""All attacks on one release: those that cost seconds, and those that train."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from data_owner.attacks import (
    attribute_inference,
    canaries,
    density_ratio,
    linkability,
    membership,
    nearest_record,
    reconstruction,
    singling_out,
)
from data_owner.attacks.attack import ON_PICTURES, Attack
from data_owner.attacks.battery import Battery
from data_owner.attacks.membership import Train
from data_owner.attacks.outcome import Result
from data_owner.attacks.search import Released
from data_owner.attacks.targets import Targets, draw
from data_owner.learning.fitting import Prepared
from protocol.artefacts import Artefact, release_digest
from shared.progress import Progress

FEWER = 1000
"""Members and control records that are linked: each is compared with all candidates."""

SYNTHETIC_ROWS = 20_000


def at_every_gate(
    artefacts: Mapping[Artefact, bytes],
    synthetic: pd.DataFrame,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    seed: int,
    progress: Progress,
) -> Battery:
    """The attacks that need no training. `synthetic`: canonical rows as an analyst makes them; `training`: the records
    that were learned from, and none that only validated."""
    released = Released.of(artefacts)
    rows = synthetic.iloc[:SYNTHETIC_ROWS]
    targets = draw(released.schema, training, held_out, seed)
    fewer = draw(released.schema, training, held_out, seed, FEWER)
    attacks: tuple[tuple[Attack, Callable[[], tuple[Result, ...]]], ...] = (
        (Attack.RECONSTRUCTION, lambda: reconstruction.attack(released, targets, seed)),
        (Attack.DENSITY_RATIO, lambda: density_ratio.attack(targets, rows, seed)),
        (Attack.ATTRIBUTE_INFERENCE, lambda: attribute_inference.attack(released, targets, seed)),
        (Attack.LINKABILITY, lambda: linkability.attack(released, fewer, seed)),
        (Attack.SINGLING_OUT, lambda: singling_out.attack(released.schema, training, held_out, rows, seed)),
        (Attack.NEAREST_RECORD, lambda: nearest_record.attack(targets, rows, seed)),
    )
    if released.schema.image is not None:
        attacks = tuple(each for each in attacks if each[0] in (*ON_PICTURES, Attack.NEAREST_RECORD))
    results: list[Result] = []
    for index, (attack, run) in enumerate(attacks):
        progress(index, len(attacks), f"attacks, after measuring: {attack.words}")
        results += run()
    return Battery(release=release_digest(artefacts), results=tuple(results))


def with_training(
    before: Battery,
    artefacts: Mapping[Artefact, bytes],
    train: Train,
    prepared: Prepared,
    shadows: int,
    seed: int,
    progress: Progress,
) -> Battery:
    """The battery with membership by shadow releases and the audit by canaries added; `seed` is that of the release."""
    released, learned = Released.of(artefacts), prepared.learned(seed)
    targets: Targets = draw(released.schema, learned, prepared.held_out, seed)
    trained = membership.train_shadows(train, learned, prepared.held_out, targets, shadows, seed, progress)
    found = membership.attack(released, targets, trained, seed)
    progress(shadows, shadows + 1, "a run with canaries")
    audit = canaries.audit(released, train, prepared.training, prepared.held_out, seed)
    others = tuple(result for result in before.results if result.attack is not Attack.MEMBERSHIP)
    return before.model_copy(update={"results": (*others, *found), "shadows": shadows, "audit": audit})
