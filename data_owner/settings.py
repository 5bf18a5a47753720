"""What `owner.toml` says: the columns, the policy and how to train. A person edits it; it fails closed."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from shared.frozen import Frozen
from shared.limits import LIMITS
from shared.schema import Label, Name, PrintableName
from shared.scores import Criterion

MOST_DECIMALS = 9
"""Of a number, as declared."""


class Written(Frozen):
    """Text a person wrote, in TOML, where lists and strings stand for tuples and enums, so types are not strict.

    Unknown settings are still refused, so a typing error cannot switch a rule off.
    """

    model_config = ConfigDict(strict=False)


class ColumnSettings(Written):
    """How one column of the records is read.

    `kind` "exclude" leaves the column out; "undecided" makes every later step refuse until a person decides.
    `categories` and `bounds`, when declared, are public knowledge; otherwise they are derived from the data, which
    differential privacy does not allow. `decimals` of a number likewise. The bounds of a date are two dates, of an
    integer whole numbers and of a number no finer than its decimals. `shape` is height, width and channels of an image.
    """

    kind: Literal["number", "integer", "category", "boolean", "date", "image", "exclude", "undecided"]
    role: Literal["feature", "sensitive", "target"] = "feature"
    categories: tuple[Label, ...] | None = Field(default=None, max_length=LIMITS.categories)
    bounds: tuple[float, float] | tuple[date, date] | None = None
    decimals: int | None = Field(default=None, ge=0, le=MOST_DECIMALS)
    shape: tuple[int, int, int] | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.role != "feature" and self.kind not in ("category", "boolean"):
            raise ValueError('a sensitive or target column must be of kind "category" or "boolean"')
        if self.bounds is not None:
            kinds = ("date",) if isinstance(self.bounds[0], date) else ("number", "integer")
            low, high = self.limits or (0.0, 0.0)
            if self.kind not in kinds or low >= high:
                raise ValueError("bounds are [low, high] of a number or integer, or two dates of a date")
            decimals = self.decimals if self.kind == "number" else 0
            if decimals is not None and (low, high) != (round(low, decimals), round(high, decimals)):
                raise ValueError("bounds are whole for an integer, and have no more decimals than are declared")
        if self.decimals is not None and self.kind != "number":
            raise ValueError("decimals belong to a number")
        if self.categories is not None and self.kind not in ("category", "boolean"):
            raise ValueError("categories belong to a category or boolean")
        if (self.shape is not None) != (self.kind == "image"):
            raise ValueError("an image, and nothing else, has a shape: [height, width, channels]")
        return self

    @property
    def limits(self) -> tuple[float, float] | None:
        """The bounds as numbers; those of a date in days since 1970-01-01."""
        if self.bounds is None:
            return None
        low, high = (
            float(bound.toordinal() - date(1970, 1, 1).toordinal()) if isinstance(bound, date) else bound
            for bound in self.bounds
        )
        return low, high


class Floors(Written):
    """What a release must reach on held-out records before a person may approve it.

    The fairness floors are shares of the ceiling (what a perfectly fair model would score by chance): of the ratio that
    the criterion aims at, and of the other, which gives way where a class is not as common in each group. Both are held
    to between all groups, and where some are small between the large ones again (`shared.metrics.LARGE`). The utility
    floors are shares of what the original records reach, density and coverage shares of real rows' own.
    """

    criterion_of_ceiling: float = Field(default=0.8, ge=0.0, le=1.0)
    other_ratio_of_ceiling: float = Field(default=0.3, ge=0.0, le=1.0)
    accuracy_of_original: float = Field(default=0.9, ge=0.0, le=1.0)
    f1_of_original: float = Field(default=0.7, ge=0.0, le=1.0)
    density_of_real: float = Field(default=0.6, ge=0.0, le=1.0)
    coverage_of_real: float = Field(default=0.7, ge=0.0, le=1.0)


class AttackLimits(Written):
    """How far attacks on a release may get before only two people together may let it out.

    A limit is a risk: what an attack gets right on members beyond control records, as a share of what was left to get
    right. It is exceeded when the measured risk is above it and chance does not explain that. `canary_epsilon` limits
    the ε that the audit refutes. The defaults are judgements: owner.toml says what each lets through.
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


UNBOUNDED = (
    "No records leave. That is not no information: the decoder and the statistics are functions of the records, "
    "without differential privacy: nothing bounds what they may have memorised."
)
"""What a release without differential privacy says of itself."""


class PrivacySettings(Written):
    """The budget: (ε, δ) for everything that ever leaves this node together.

    `draws` says how often microdata may be drawn from the records within it; the next draw takes an equal part of what
    is left, so to allow another, raise both. `person` names the column that says whose a row is; of each person the
    first `rows_per_person` rows are kept. Without it a row is a person.
    """

    epsilon: float = Field(gt=0.0, le=100.0)
    delta: float = Field(default=1e-5, gt=0.0, le=1e-3)
    draws: int = Field(default=1, ge=1, le=1000)
    person: Name | None = None
    rows_per_person: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _rows_need_a_person(self) -> Self:
        if self.person is None and self.rows_per_person != 1:
            raise ValueError("rows_per_person needs person, the column that says whose a row is")
        return self


class Policy(Written):
    """What may leave this node. There is no default file: without a policy nothing is served.

    `minimum_count` records, never fewer than 5, are behind whatever is published of some. A release ends after
    `release_days`, so that a person looks at it again; who fetched it has it still.
    """

    minimum_count: int = Field(default=10, ge=5)
    small_groups: Literal["refuse", "merge"] = "refuse"
    release_days: int = Field(default=90, ge=1, le=LIMITS.release_days)
    privacy: str = Field(default=UNBOUNDED, max_length=LIMITS.policy_privacy_characters)
    floors: Floors = Floors()
    attacks: AttackLimits = AttackLimits()

    def stated(self, privacy: str) -> str:
        """What a release says of its privacy, which its owner may add to and not replace."""
        return privacy if self.privacy == UNBOUNDED else f"{privacy} {self.privacy}"


class TrainingSettings(Written):
    """How the teacher is trained (DESIGN section 2)."""

    criterion: Criterion = "parity"
    repair: float = Field(default=1.2, ge=0.0, le=LIMITS.repair)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _repair_fits_the_criterion(self) -> Self:
        if self.criterion == "odds" and self.repair > 0.0:
            raise ValueError('criterion "odds" needs repair = 0.0: it rebalances recorded labels')
        return self


class OwnerSettings(Written):
    """The whole of `owner.toml`."""

    version: Literal[1] = 1
    name: PrintableName
    source: Name
    positive: Label
    policy: Policy
    training: TrainingSettings = TrainingSettings()
    privacy: PrivacySettings | None = None
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
            if "file" in self.columns and self.columns["file"].kind not in ("exclude", "image"):
                raise ValueError('beside an image no other column can be named "file": labels.csv names pictures in it')
            if self.training.repair > 0.0:
                raise ValueError("images need repair = 0.0: their labels are not predicted from columns")
        person = self.privacy.person if self.privacy else None
        if person is not None and (person not in self.columns or self.columns[person].kind != "exclude"):
            raise ValueError('privacy.person must be a column of kind "exclude"')
        if self.privacy is not None and "image" in kept:
            raise ValueError("privacy is for tables: leave the section out, or the image")
        return self
