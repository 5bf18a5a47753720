"""One line of a `doctor`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import Fair4FreeError
from shared.limits import LIMITS
from shared.printable import one_line


@dataclass(frozen=True)
class Diagnosis:
    """`text` is the state when it passed, and the problem with its fix when it did not."""

    name: str
    passed: bool
    text: str


def examine(checks: Mapping[str, Callable[[], str]]) -> list[Diagnosis]:
    """Make every check, by its name and in order: it returns its text, and raises where something is wrong."""
    return [_examined(name, check) for name, check in checks.items()]


def _examined(name: str, check: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(name, True, check())
    except (Fair4FreeError, OSError) as error:
        return Diagnosis(name, False, str(error))


def as_text(diagnoses: Sequence[Diagnosis]) -> str:
    """A line each."""
    return "\n".join(
        f"{'passed ' if each.passed else 'problem'}  {each.name}: {one_line(each.text)}" for each in diagnoses
    )


def as_values(diagnoses: Sequence[Diagnosis]) -> dict[str, Any]:
    """The same for a program, with the limits that hold here."""
    return {"findings": [vars(each) for each in diagnoses], "limits": vars(LIMITS)}
