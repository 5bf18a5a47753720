"""One line of a `doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from shared.limits import LIMITS


@dataclass(frozen=True)
class Finding:
    """`text` is the state when it passed, and the problem with its fix when it did not."""

    name: str
    passed: bool
    text: str


def limits() -> Finding:
    """The limits that hold here: none of them can be wrong."""
    return Finding("limits", True, ", ".join(f"{name} {value:,}" for name, value in vars(LIMITS).items()))
