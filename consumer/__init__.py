"""The consumer's side. The steps over a study are functions; `fair4free` is a thin shell over them."""

from __future__ import annotations

from typing import Any

from protocol.transport import require_tls_1_3

require_tls_1_3()

__all__ = ["audit", "distill", "enrol", "fetch", "generate", "verify"]


def __getattr__(name: str) -> Any:
    """Import the steps when one is first asked for: `--help` should not wait for torch."""
    if name not in __all__:
        raise AttributeError(name)
    from consumer import steps

    return getattr(steps, name)
