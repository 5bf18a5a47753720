"""How a long step says how far it is: done, of how many, and in words what was done last."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]


def quiet(step: int, total: int, message: str) -> None:
    """No progress shown."""
