"""Every error this software raises on purpose.

    Fair4FreeError
    ├── BadContent              what was given cannot be accepted
    │   ├── BadInput            a table, a setting, an argument          exit 2
    │   ├── PolicyRefusal       the owner's policy says no               exit 1
    │   └── VerificationFailure bytes are not what was signed or agreed  exit 1
    └── Unreachable             could not reach, read or write           exit 3

An error names the field and the remedy. It never carries a data value: messages are built from names
that the reader already has (columns, settings, files), never from the contents of a record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar


class Fair4FreeError(Exception):
    """Root of both families.

    `problem` says what is wrong, `field` where (a column, setting, file or address), `remedy` what to do; `details`
    is what a program reads beside these, by name.
    """

    exit_code: int = 2

    def __init__(
        self, problem: str, *, field: str = "", remedy: str = "", details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.field = field
        self.remedy = remedy
        self.details = details or {}

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        advice = f". Remedy: {self.remedy}" if self.remedy else ""
        return f"{where}{self.problem}{advice}"

    def as_json(self) -> dict[str, object]:
        return {
            "kind": type(self).__name__,
            "field": self.field,
            "problem": self.problem,
            "remedy": self.remedy,
            **self.details,
        }


class BadContent(Fair4FreeError):
    """What was given cannot be accepted.

    `several`: the errors that `together` joined, one a column; empty for a single one.
    """

    several: tuple[BadContent, ...] = ()

    def as_json(self) -> dict[str, object]:
        joined = {"several": [each.as_json() for each in self.several]} if self.several else {}
        return {**super().as_json(), **joined}


class BadInput(BadContent):
    """A table, a setting or an argument is not usable as it is."""


class PolicyRefusal(BadContent):
    """The owner's policy does not allow the step."""

    exit_code = 1


Refusal = TypeVar("Refusal", bound=BadContent)


def together(problems: Sequence[Refusal]) -> Refusal:
    """All that is wrong at once, in the type of the first: a table of forty columns is not mended one run a column."""
    first = problems[0]
    if len(problems) == 1:
        return first
    joined = type(first)(
        "; ".join(f"{each.field}: {each.problem}" for each in problems),
        field=", ".join(each.field for each in problems),
        remedy="; ".join(f"{each.field}: {each.remedy}" for each in problems),
    )
    joined.several = tuple(problems)
    return joined


class VerificationFailure(BadContent):
    """Bytes are not what was signed, announced or last seen."""

    exit_code = 1


class Unreachable(Fair4FreeError):
    """A peer could not be reached, or a file could not be read or written."""

    exit_code = 3
