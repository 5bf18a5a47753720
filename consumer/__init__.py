"""The consumer's side. The steps over a study are functions; `fair4free` is a thin shell over them."""

from __future__ import annotations

from typing import Any

from protocol.transport import require_tls_1_3

require_tls_1_3()

RECEIVING = ("enrol", "fetch", "verify", "verify_ledger")
STEPS = ("audit", "distill", "generate")
__all__ = [*RECEIVING, *STEPS]


def __getattr__(name: str) -> Any:
    """Import the steps when one is first asked for: `--help` should not wait, nor `verify` for torch."""
    if name in RECEIVING:
        from consumer import receiving_steps

        return getattr(receiving_steps, name)
    if name in STEPS:
        from consumer import steps

        return getattr(steps, name)
    raise AttributeError(name)
