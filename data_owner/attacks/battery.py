"""What all attacks on one release found. It stays with the owner; `data_owner.attack_gate` turns it into verdicts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Audit, Result
from shared.frozen import JsonFile

SHADOWS = 16
"""Shadow releases unless told otherwise, half of them with each record, half without; fewer tell far less."""


class Battery(JsonFile):
    """What attacks found on the release whose artefacts have the digest `release`. `shadows` trained for membership."""

    what = "attacks"
    remedy = "run gate again"

    format: Literal[1] = 1
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
