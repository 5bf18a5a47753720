"""The data owner's side. The steps over a node are functions; `fair4free-owner` is a thin shell over them."""

from __future__ import annotations

from typing import Any

from protocol.transport import require_tls_1_3

require_tls_1_3()

STEPS = ("init", "train", "gate", "approve", "deny")
ATTACK_STEPS = ("attack", "override", "write_privacy_report")
__all__ = [*STEPS, *ATTACK_STEPS]


def __getattr__(name: str) -> Any:
    """Import the steps when one is first asked for: `--help` should not wait for torch."""
    if name not in __all__:
        raise AttributeError(name)
    from data_owner import attack_steps, steps

    return getattr(steps if name in STEPS else attack_steps, name)
