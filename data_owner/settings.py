"""What `owner.toml` says: the columns, the policy and how to train. A person edits it; it fails closed."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from shared.limits import LIMITS
from shared.schema import Frozen, Label, Name


class Written(Frozen):
    """Text a person wrote: unknown settings are refused, so a typing error cannot switch a rule off."""

    model_config = ConfigDict(frozen=True, strict=False, extra="forbid", allow_inf_nan=False)


class ColumnSettings(Written):
    """How one column of the records is read.

    `kind` "exclude" leaves the column out; "undecided" makes every later step refuse until a person decides.
    `categories` and `bounds`, when declared, are public knowledge; otherwise they are derived from the data. `shape` is
    height, width and channels of an image.
    """

    kind: Literal["number", "integer", "category", "boolean", "date", "image", "exclude", "undecided"]
    role: Literal["feature", "sensitive", "target"] = "feature"
    categories: tuple[Label, ...] | None = Field(default=None, max_length=LIMITS.categories)
    bounds: tuple[float, float] | None = None
    shape: tuple[int, int, int] | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.role != "feature" and self.kind not in ("category", "boolean"):
            raise ValueError('a sensitive or target column must be of kind "category" or "boolean"')
        if self.bounds is not None and (self.kind not in ("number", "integer") or self.bounds[0] >= self.bounds[1]):
            raise ValueError("bounds are [low, high] of a number or integer")
        if self.categories is not None and self.kind not in ("category", "boolean"):
            raise ValueError("categories belong to a category or boolean")
        if (self.shape is not None) != (self.kind == "image"):
            raise ValueError("an image, and nothing else, has a shape: [height, width, channels]")
        return self


class Floors(Written):
    """What a release must reach on held-out records before a person may approve it.

    The fairness floors are shares of the ceiling (what a perfectly fair model would score by chance), the utility
    floors shares of what the original records reach, density and coverage shares of real rows' own.
    """

    demographic_parity_of_ceiling: float = Field(default=0.8, ge=0.0, le=1.0)
    equalized_odds_of_ceiling: float = Field(default=0.5, ge=0.0, le=1.0)
    accuracy_of_original: float = Field(default=0.9, ge=0.0, le=1.0)
    f1_of_original: float = Field(default=0.7, ge=0.0, le=1.0)
    density_of_real: float = Field(default=0.6, ge=0.0, le=1.0)
    coverage_of_real: float = Field(default=0.7, ge=0.0, le=1.0)


class AttackLimits(Written):
    """How far attacks on a release may get before only two people together may let it out.

    A limit is a risk: what an attack gets right on members beyond control records, as a share of what was left to get
    right. It is exceeded when the measured risk is above it and chance does not explain that. `canary_epsilon` limits
    the ε that the audit refutes.
    """

    required: tuple[Attack, ...] = AT_EVERY_GATE
    inconclusive: Literal["allow", "refuse"] = "allow"
    reconstruction: float = Field(default=0.05, ge=0.0, le=1.0)
    density_ratio: float = Field(default=0.05, ge=0.0, le=1.0)
    attribute_inference: float = Field(default=0.1, ge=0.0, le=1.0)
    linkability: float = Field(default=0.1, ge=0.0, le=1.0)
    singling_out: float = Field(default=0.1, ge=0.0, le=1.0)
    membership: float = Field(default=0.05, ge=0.0, le=1.0)
    canary_epsilon: float = Field(default=1.0, ge=0.0)

    @field_validator("required")
    @classmethod
    def _can_be_judged(cls, required: tuple[Attack, ...]) -> tuple[Attack, ...]:
        if Attack.NEAREST_RECORD in required:
            raise ValueError("nearest_record is no evidence and cannot be required")
        return required


class Policy(Written):
    """What may leave this node. There is no default file: without a policy nothing is served."""

    minimum_count: int = Field(default=10, ge=5)
    small_groups: Literal["refuse", "merge"] = "refuse"
    release_days: int = Field(default=90, ge=1, le=LIMITS.release_days)
    privacy: str = (
        "No records leave. That is not no information: the decoder and the statistics are functions of the records, "
        "without differential privacy."
    )
    floors: Floors = Floors()
    attacks: AttackLimits = AttackLimits()


class TrainingSettings(Written):
    """How the teacher is trained (DESIGN section 2)."""

    criterion: Literal["parity", "odds"] = "parity"
    repair: float = Field(default=1.0, ge=0.0, le=1.0)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _repair_fits_the_criterion(self) -> Self:
        if self.criterion == "odds" and self.repair > 0.0:
            raise ValueError('criterion "odds" needs repair = 0.0: it rebalances recorded labels')
        return self


class OwnerSettings(Written):
    """The whole of `owner.toml`."""

    version: Literal[1] = 1
    name: Name
    source: Name
    positive: Label
    policy: Policy
    training: TrainingSettings = TrainingSettings()
    columns: dict[Name, ColumnSettings] = Field(min_length=3, max_length=LIMITS.columns)

    @model_validator(mode="after")
    def _has_roles(self) -> Self:
        roles = [column.role for column in self.columns.values() if column.kind != "exclude"]
        if roles.count("target") != 1:
            raise ValueError('exactly one column must have role "target"')
        if "sensitive" not in roles:
            raise ValueError('at least one column must have role "sensitive"')
        if "feature" not in roles:
            raise ValueError('at least one column must have role "feature"')
        kept = [
            column.kind for column in self.columns.values() if column.role == "feature" and column.kind != "exclude"
        ]
        if "image" in kept:
            if len(kept) > 1:
                raise ValueError('beside an image every other feature must have kind "exclude"')
            if self.training.repair > 0.0:
                raise ValueError("images need repair = 0.0: their labels are not predicted from columns")
        return self
