"""The attacks by name: what policy, report and card call them."""

from __future__ import annotations

from enum import StrEnum

from shared.card import STRONGEST_ATTACK


class Attack(StrEnum):
    """Those up to `NEAREST_RECORD` need no training and run at every gate."""

    RECONSTRUCTION = "reconstruction"
    DENSITY_RATIO = "density_ratio"
    ATTRIBUTE_INFERENCE = "attribute_inference"
    LINKABILITY = "linkability"
    SINGLING_OUT = "singling_out"
    NEAREST_RECORD = "nearest_record"
    MEMBERSHIP = STRONGEST_ATTACK
    CANARIES = "canaries"

    @property
    def words(self) -> str:
        return self.value.replace("_", " ")


AT_EVERY_GATE = (
    Attack.RECONSTRUCTION,
    Attack.DENSITY_RATIO,
    Attack.ATTRIBUTE_INFERENCE,
    Attack.LINKABILITY,
    Attack.SINGLING_OUT,
)
"""Those made at every gate that are judged; a policy requires them unless it says otherwise. Nearest-record distance is
made there too, and shown without a judgement."""

ON_PICTURES = (Attack.RECONSTRUCTION, Attack.DENSITY_RATIO)
"""Those of them that a release of pictures can be put to: the others guess and link columns."""
