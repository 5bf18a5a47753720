"""All attacks on one release: those that cost seconds, and those that train.

What they found stays with the owner; `data_owner.attack_gate` turns it into verdicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Self

import pandas as pd
from pydantic import Field, ValidationError

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
from data_owner.attacks.canaries import Audit
from data_owner.attacks.membership import Train
from data_owner.attacks.outcome import Result
from data_owner.attacks.search import Released
from data_owner.attacks.targets import Targets, draw
from protocol.artefacts import Artefact
from shared.errors import BadInput
from shared.progress import Progress
from shared.schema import Frozen, describe

FEWER = 1000
"""Members and control records that are linked: each is compared with all candidates."""

SYNTHETIC_ROWS = 20_000


class Battery(Frozen):
    """What attacks found on the release whose artefacts have the digest `release`. `shadows` trained for membership."""

    format: int = Field(default=1, ge=1, le=1)
    release: str
    results: tuple[Result, ...]
    shadows: int = Field(default=0, ge=0)
    audit: Audit | None = None

    @property
    def made(self) -> frozenset[Attack]:
        audited = {Attack.CANARIES} if self.audit is not None else set()
        return frozenset({result.attack for result in self.results} | audited)

    def with_training_of(self, other: Battery | None) -> Battery:
        """With what only training could find, from an earlier battery on the same release."""
        if other is None or other.release != self.release or not other.shadows:
            return self
        kept = tuple(result for result in other.results if result.attack is Attack.MEMBERSHIP)
        update = {"results": (*self.results, *kept), "shadows": other.shadows, "audit": other.audit}
        return self.model_copy(update=update)

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `BadInput` naming the field."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise BadInput(describe(error), field="attacks", remedy="run gate again") from None


def at_every_gate(
    artefacts: Mapping[Artefact, bytes],
    synthetic: pd.DataFrame,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    seed: int,
    progress: Progress,
) -> Battery:
    """The attacks that need no training. `synthetic`: canonical rows as an analyst makes them."""
    released = Released.of(artefacts)
    rows = synthetic.iloc[:SYNTHETIC_ROWS]
    targets = draw(released.schema, training, held_out, seed)
    fewer = draw(released.schema, training, held_out, seed, FEWER)
    attacks: tuple[tuple[Attack, Callable[[], tuple[Result, ...]]], ...] = (
        (Attack.RECONSTRUCTION, lambda: reconstruction.attack(released, targets, seed)),
        (Attack.DENSITY_RATIO, lambda: density_ratio.attack(targets, rows, seed)),
        (Attack.ATTRIBUTE_INFERENCE, lambda: attribute_inference.attack(released, targets, seed)),
        (Attack.LINKABILITY, lambda: linkability.attack(released, fewer, seed)),
        (Attack.SINGLING_OUT, lambda: singling_out.attack(targets, rows, seed)),
        (Attack.NEAREST_RECORD, lambda: nearest_record.attack(targets, rows, seed)),
    )
    if released.schema.image is not None:
        attacks = tuple(each for each in attacks if each[0] in (*ON_PICTURES, Attack.NEAREST_RECORD))
    results: list[Result] = []
    for index, (attack, run) in enumerate(attacks):
        progress(index, len(attacks), f"attack: {attack.words}")
        results += run()
    return Battery(release=release_digest(artefacts), results=tuple(results))


def with_training(
    before: Battery,
    artefacts: Mapping[Artefact, bytes],
    train: Train,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    shadows: int,
    seed: int,
    progress: Progress,
) -> Battery:
    """The battery with membership by shadow releases and the audit by canaries added."""
    released = Released.of(artefacts)
    targets: Targets = draw(released.schema, training, held_out, seed)
    trained = membership.train_shadows(train, training, held_out, targets, shadows, seed, progress)
    found = membership.attack(released, targets, trained, seed)
    progress(shadows, shadows + 1, "a run with canaries")
    audit = canaries.audit(released, train, training, held_out, seed)
    others = tuple(result for result in before.results if result.attack is not Attack.MEMBERSHIP)
    return before.model_copy(update={"results": (*others, *found), "shadows": shadows, "audit": audit})


def release_digest(artefacts: Mapping[Artefact, bytes]) -> str:
    """SHA-256 over decoder, statistics and schema, hex."""
    parts = (Artefact.DECODER, Artefact.STATISTICS, Artefact.SCHEMA)
    digests = (hashlib.sha256(artefacts[kind]).digest() for kind in parts)
    return hashlib.sha256(b"".join(digests)).hexdigest()
