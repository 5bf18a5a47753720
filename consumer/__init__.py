"""The consumer's side. The steps over a study are functions; `fair4free` is a thin shell over them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from protocol.transport import require_tls_1_3
from shared.threads import let_threads_sleep

require_tls_1_3()
let_threads_sleep()

STEPS = {
    "enrol": "receiving_steps",
    "fetch": "receiving_steps",
    "verify": "receiving_steps",
    "verify_ledger": "receiving_steps",
    "distill": "steps",
    "generate": "steps",
    "audit": "audit_steps",
}
"""Each step with the module that has it."""

__all__ = [*STEPS]


def __getattr__(name: str) -> Any:
    """Import a step when it is first asked for: `--help` should not wait, nor `verify` for torch."""
    if name not in STEPS:
        raise AttributeError(name)
    return getattr(import_module(f"consumer.{STEPS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
