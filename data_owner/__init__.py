"""The data owner's side. The steps over a node are functions; `fair4free-owner` is a thin shell over them.

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

__all__ = [*STEPS, "errors"]

if TYPE_CHECKING:
    from data_owner.attack_steps import attack as attack
    from data_owner.decisions import approve as approve
    from data_owner.decisions import deny as deny
    from data_owner.decisions import override as override
    from data_owner.decisions import write_privacy_report as write_privacy_report
    from data_owner.steps import gate as gate
    from data_owner.steps import init as init
    from data_owner.steps import train as train
else:
    __getattr__ = lazy_steps(__name__, STEPS)


def __dir__() -> list[str]:
    return __all__
