"""What an attack found, as counts: main, control and baseline, with Wilson intervals (Wilson 1927)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.stats import binomtest, fisher_exact

from data_owner.attacks.attack import Attack
from shared.frozen import Frozen

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95
LEAST_TRIALS = 10
"""Parts with fewer guesses than this are not reported."""

EVERYONE = "everyone"
SMALL_GROUPS = "small groups together"
"""All groups with fewer than `LEAST_TRIALS` on either side, who have no line of their own."""


def group_part(label: str) -> str:
    """The part that a sensitive group is."""
    return f"group {label}"


class Rate(Frozen):
    """`successes` of `trials` independent guesses. Of none the share is 0 and could be anything."""

    successes: int = Field(ge=0)
    trials: int = Field(ge=0)

    @model_validator(mode="after")
    def _is_a_share(self) -> Self:
        if self.successes > self.trials:
            raise ValueError("more successes than trials")
        return self

    @classmethod
    def of(cls, success: Flags) -> Self:
        return cls(successes=int(success.sum()), trials=len(success))

    @property
    def share(self) -> float:
        return self.successes / max(self.trials, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval."""
        if not self.trials:
            return 0.0, 1.0
        found = binomtest(self.successes, self.trials).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)


class Outcome(Frozen):
    """One attack on one part of the records: who was guessed about, and how often each of the three was right."""

    part: str
    main: Rate
    control: Rate
    baseline: Rate

    @property
    def risk(self) -> float:
        """(main - control) / (1 - control): what the release adds to knowledge about people in general, as a share
        of what there was left to know (Giomi et al. 2023, equation 2). At least -1."""
        left = 1.0 - self.control.share
        return max((self.main.share - self.control.share) / left, -1.0) if left > 0.0 else 0.0

    @property
    def risk_interval(self) -> tuple[float, float]:
        """The risk with the Wilson intervals of both rates propagated (Giomi et al. 2023, section 3.3); it could be
        anything where control left nothing to know."""
        left = 1.0 - self.control.share
        if left == 0.0:
            return -1.0, 1.0
        (main_low, main_high), (control_low, control_high) = self.main.interval, self.control.interval
        main, control = self.main.share, self.control.share
        by_control = (1.0 - main) / left**2
        low = np.hypot((main - main_low) / left, (control_high - control) * by_control)
        high = np.hypot((main_high - main) / left, (control - control_low) * by_control)
        return max(self.risk - float(low), -1.0), min(self.risk + float(high), 1.0)

    @property
    def p_value(self) -> float:
        """Fisher's exact test that main is right no more often than control, one-sided."""
        return _p_value(self.main, self.control)

    @property
    def beats_baseline(self) -> bool:
        """Whether the attack is better than guessing. If not, there is nothing to find or it is too weak to find it."""
        return _p_value(self.main, self.baseline) < 1.0 - CONFIDENCE


class Result(Frozen):
    """An attack with one aim, on everyone and on each part."""

    attack: Attack
    aim: str
    outcomes: tuple[Outcome, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        return f"{self.attack.words}, {self.aim}"

    @property
    def overall(self) -> Outcome:
        return self.outcomes[0]


class Audit(Frozen):
    """`correct` of `guesses` about `canaries`, and the ε that they refute at `delta` and 95 % confidence; all of them
    right would refute `refutable`. `claimed`: the ε that what was attacked claims, None if it claims none."""

    canaries: int = Field(ge=1)
    guesses: int = Field(ge=0)
    correct: int = Field(ge=0)
    delta: float = Field(ge=0.0, lt=1.0)
    epsilon: float = Field(ge=0.0)
    refutable: float = Field(ge=0.0)
    claimed: float | None = None


@dataclass(frozen=True)
class Guesses:
    """Whether each guess was right, (n,), and which guesses belong to which part of the records, (n,) each."""

    right: Flags
    parts: Mapping[str, Flags]


def outcomes(main: Guesses, control: Guesses, baseline: Guesses) -> tuple[Outcome, ...]:
    """Everyone first, then each part with enough guesses of all three."""
    sides = (main, control, baseline)
    found = [_outcome(EVERYONE, *(side.right for side in sides))]
    for part in main.parts:
        rights = [side.right[side.parts[part]] for side in sides]
        if min(map(len, rights)) >= LEAST_TRIALS:
            found.append(_outcome(part, *rights))
    return tuple(found)


def _outcome(part: str, main: Flags, control: Flags, baseline: Flags) -> Outcome:
    return Outcome(part=part, main=Rate.of(main), control=Rate.of(control), baseline=Rate.of(baseline))


def _p_value(more: Rate, less: Rate) -> float:
    table = [
        [more.successes, more.trials - more.successes],
        [less.successes, less.trials - less.successes],
    ]
    return float(fisher_exact(table, alternative="greater").pvalue)
