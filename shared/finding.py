"""One line of a `doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.limits import LIMITS

LIMITS_NAME = "limits"


@dataclass(frozen=True)
class Finding:
    """`text` is the state when it passed, and the problem with its fix when it did not."""

    name: str
    passed: bool
    text: str


def as_text(findings: Iterable[Finding]) -> str:
    """A line each, but for the limits, which only a program reads."""
    told = (each for each in findings if each.name != LIMITS_NAME)
    return "\n".join(f"{'passed ' if each.passed else 'problem'}  {each.name}: {each.text}" for each in told)


def limits() -> Finding:
    """The limits that hold here: none of them can be wrong."""
    return Finding(LIMITS_NAME, True, ", ".join(f"{name} {value:,}" for name, value in vars(LIMITS).items()))
