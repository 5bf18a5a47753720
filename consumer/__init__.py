"""The consumer's side. The steps over a study are functions; `fair4free` is a thin shell over them.

A step raises `errors.BadInput` for an argument or a folder that it cannot use and `errors.Unreachable` for what cannot
be read, written or reached; each says what else it raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.transport import require_tls_1_3
from shared import errors as errors
from shared.lazy_steps import lazy_steps
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

__all__ = [*STEPS, "errors"]

if TYPE_CHECKING:
    from consumer.audit_steps import audit as audit
    from consumer.receiving_steps import enrol as enrol
    from consumer.receiving_steps import fetch as fetch
    from consumer.receiving_steps import verify as verify
    from consumer.receiving_steps import verify_ledger as verify_ledger
    from consumer.steps import distill as distill
    from consumer.steps import generate as generate
else:
    __getattr__ = lazy_steps(__name__, STEPS)


def __dir__() -> list[str]:
    return __all__
