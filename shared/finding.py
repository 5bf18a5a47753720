"""One line of a `doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`text` is the state when it passed, and the problem with its fix when it did not."""

    name: str
    passed: bool
    text: str
