"""How a long step says how far it is: done, of how many, and in words what was done last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int, str], None]


def quiet(step: int, total: int, message: str) -> None:
    """No progress shown."""


@dataclass
class Pace:
    """How fast the present stage goes. A stage has one total; neither what came before it nor the steps that it found
    done say anything of what is left."""

    total: int = -1
    found: int = 0
    step: int = 0
    began: float = 0.0

    def left(self, step: int, total: int, now: float) -> float | None:
        """Seconds left of the stage at a moment `now`, in seconds; None until two moments tell."""
        if total != self.total or step < self.step:
            self.total, self.found, self.began = total, step, now
        self.step = step
        done = step - self.found
        return (now - self.began) / done * (total - step) if done else None
