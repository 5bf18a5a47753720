"""The release card: what the owner measured, published once and coarsely (two decimals, sizes to tens)."""

from __future__ import annotations

from collections.abc import Mapping
from operator import not_
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from shared.frozen import Frozen, JsonFile
from shared.limits import LIMITS
from shared.schema import JointLabel, Label, Name, PrintableName
from shared.scores import Criterion, Judgement, PictureScores

Part = TypeVar("Part", bound=Frozen)


class GroupSize(Frozen):
    """A sensitive group, its records rounded to tens, and the positive rate of its held-out records.

    No field says how often a model names them positive: with the ratios it would tell of a group that is left out.
    """

    label: JointLabel
    records: int = Field(ge=0)
    recorded_rate: float | None = Field(default=None, ge=0.0, le=1.0)


Figure = Annotated[int, Field(ge=0, le=LIMITS.rows)] | float
"""A count is whole; a share, or a whole number in the card of an earlier program, is not."""


class Check(Frozen):
    """One line of the gate: what was measured, what the policy asks for, and whether it passed."""

    name: str = Field(max_length=200 + LIMITS.name_characters)
    measured: Figure
    required: Figure
    passed: bool


RATIOS: Mapping[Criterion, str] = {"parity": "demographic parity", "odds": "equalized odds"}
BETWEEN_LARGE = " between large groups"
COMPARABLE = "groups with enough held-out records to compare"
ACCURACY = "accuracy, share of original"
F1 = "F1, share of original"
DENSITY = "density, share of real"
COVERAGE = "coverage, share of real"
"""How the names of checks begin."""


def fairness_check(ratio: Criterion, between: str = "") -> str:
    """The name of the check of that ratio, between all groups unless it is `BETWEEN_LARGE`."""
    return f"{RATIOS[ratio]}{between}, share of ceiling"


STRONGEST_ATTACK = "membership"

AttackFinding = Literal["resisted", "inconclusive", "succeeded"]


class AttackVerdict(Frozen):
    """What came of one kind of attack on the release: a word, and no figure that could be queried."""

    attack: str = Field(max_length=100)
    finding: AttackFinding


class Card(Judgement, JsonFile):
    """What a judge measured under `protocol`.

    `pictures` stands in the card of pictures alone. `attacks` were made by the owner on this release; `overridden`: two
    people let it out over what they found. `microdata`: the owner has a budget, so original and held-out rows are
    microdata and nobody is behind them; where it is not so the file is without it, which earlier programs read too.
    """

    what = "card"
    remedy = "ask the owner for a new release"

    format: Literal[1] = 1
    node: PrintableName
    target: Name
    positive: Label
    sensitive: tuple[Name, ...]
    criterion: Criterion
    repair: float = Field(ge=0.0, le=LIMITS.repair)
    privacy: str = Field(max_length=LIMITS.statement_characters)
    protocol: str = Field(max_length=LIMITS.statement_characters)
    records: int = Field(ge=0)
    held_out: int = Field(ge=0)
    groups: tuple[GroupSize, ...] = Field(max_length=LIMITS.groups)
    checks: tuple[Check, ...]
    pictures: PictureScores | None = None
    attacks: tuple[AttackVerdict, ...] = Field(default=(), max_length=32)
    overridden: bool = False
    microdata: bool = Field(default=False, exclude_if=not_)

    @property
    def rows(self) -> str:
        """What original and held-out rows are."""
        return "rows of microdata" if self.microdata else "records"


def coarse(part: Part) -> Part:
    """The same figures to two decimals."""
    return part.model_copy(
        update={name: round(value, 2) for name, value in part.model_dump().items() if isinstance(value, float)}
    )
