"""The data owner's side. The steps over a node are functions; `fair4free-owner` is a thin shell over them."""

from __future__ import annotations

from typing import Any

from protocol.transport import require_tls_1_3

require_tls_1_3()

__all__ = ["approve", "attack", "deny", "gate", "init", "override", "train", "write_privacy_report"]


def __getattr__(name: str) -> Any:
    """Import the steps when one is first asked for: `--help` should not wait for torch."""
    if name not in __all__:
        raise AttributeError(name)
    from data_owner import steps

    return getattr(steps, name)
