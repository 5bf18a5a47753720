"""One line of a `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.limits import LIMITS


@dataclass(frozen=True)
class Finding:
    """`text` is the state when it passed, and the problem with its fix when it did not."""

    name: str
    passed: bool
    text: str


def as_text(findings: Sequence[Finding]) -> str:
    """A line each."""
    return "\n".join(f"{'passed ' if each.passed else 'problem'}  {each.name}: {each.text}" for each in findings)


def as_values(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for a program, with the limits that hold here."""
    return {"findings": [vars(each) for each in findings], "limits": vars(LIMITS)}
