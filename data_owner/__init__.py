"""The data owner's side. The steps over a node are functions; `fair4free-owner` is a thin shell over them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from protocol.transport import require_tls_1_3
from shared.threads import let_threads_sleep

require_tls_1_3()
let_threads_sleep()

STEPS = {
    "init": "steps",
    "train": "steps",
    "gate": "steps",
    "attack": "attack_steps",
    "approve": "decisions",
    "override": "decisions",
    "deny": "decisions",
    "write_privacy_report": "decisions",
}
"""Each step with the module that has it."""

__all__ = [*STEPS]


def __getattr__(name: str) -> Any:
    """Import a step when it is first asked for: `--help` should not wait for torch."""
    if name not in STEPS:
        raise AttributeError(name)
    return getattr(import_module(f"data_owner.{STEPS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
