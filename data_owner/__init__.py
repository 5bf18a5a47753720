"""The data owner's side. The steps over a node are functions; `fair4free-owner` is a thin shell over them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from protocol.transport import require_tls_1_3

require_tls_1_3()

STEPS = {
    "steps": ("init", "train", "gate"),
    "attack_steps": ("attack",),
    "decisions": ("approve", "override", "deny", "write_privacy_report"),
}
__all__ = [name for names in STEPS.values() for name in names]


def __getattr__(name: str) -> Any:
    """Import a step when it is first asked for: `--help` should not wait for torch."""
    for module, names in STEPS.items():
        if name in names:
            return getattr(import_module(f"data_owner.{module}"), name)
    raise AttributeError(name)
