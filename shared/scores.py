"""What is measured, as values: whoever only reads a card or serves one needs no numerics."""

from __future__ import annotations

from statistics import fmean
from typing import Literal, Self

from pydantic import Field

from shared.frozen import Frozen
from shared.schema import JointLabel

Criterion = Literal["parity", "odds"]
"""Whether a model is to say positive equally often in all groups, or within each class (DESIGN section 2)."""

Share = Field(ge=0.0, le=1.0)


class _Averaged(Frozen):
    @classmethod
    def mean(cls, found: list[Self]) -> Self:
        """Of every field."""
        return cls(**{name: fmean(getattr(one, name) for one in found) for name in cls.model_fields})


class Scores(_Averaged):
    """Fairness and utility of one set of predictions; the ratios are 1 when groups are treated alike."""

    demographic_parity_ratio: float = Share
    equalized_odds_ratio: float = Share
    accuracy: float = Share
    recall: float = Share
    f1: float = Share

    @classmethod
    def heads(cls) -> tuple[str, ...]:
        """What a table writes above each of them."""
        return tuple(name.replace("_", " ").replace("f1", "F1") for name in cls.model_fields)

    def cells(self) -> tuple[float, ...]:
        """The row below."""
        return tuple(getattr(self, name) for name in type(self).model_fields)


class Fidelity(_Averaged):
    """Density and coverage (Naeem et al. 2020)."""

    density: float = Field(ge=0.0)
    coverage: float = Share


class Judgement(Frozen):
    """Scores on held-out records of a model of `synthetic` rows and of `original` ones; the `ceiling` is the first with
    groups permuted, the `floor` the constant classifier. Fidelity of synthetic rows, its ceiling of original ones."""

    synthetic: Scores
    original: Scores
    ceiling: Scores
    floor: Scores
    fidelity: Fidelity
    fidelity_ceiling: Fidelity


class GroupAccuracy(Frozen):
    """Accuracy on one group's real held-out pictures, trained on synthetic and on original ones."""

    label: JointLabel
    synthetic: float = Share
    original: float = Share


class PictureScores(Frozen):
    """`agreement`: how often a classifier trained on the originals gives a synthetic picture its label; its ceiling is
    the same of real held-out pictures. `hardest`: accuracy in the cells of class and group on which a classifier
    trained on the originals does worst. `group_*`: how often the group is predicted from z and the class, from z alone,
    and by naming each class's, or the, commonest group."""

    agreement: float = Share
    agreement_ceiling: float = Share
    groups: tuple[GroupAccuracy, ...]
    hardest_synthetic: float | None = Field(default=None, ge=0.0, le=1.0)
    hardest_original: float | None = Field(default=None, ge=0.0, le=1.0)
    group_from_latent_in_class: float | None = Field(default=None, ge=0.0, le=1.0)
    group_commonest_in_class: float | None = Field(default=None, ge=0.0, le=1.0)
    group_from_latent: float | None = Field(default=None, ge=0.0, le=1.0)
    group_commonest: float | None = Field(default=None, ge=0.0, le=1.0)
