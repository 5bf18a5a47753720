"""The data owner's side. The steps over a node are functions; `fair4free-owner` is a thin shell over them.

A step raises `errors.BadInput` for an argument or a folder that it cannot use and `errors.Unreachable` for what cannot
be read, written or reached; each says what else it raises.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from protocol.transport import require_tls_1_3
from shared import errors as errors
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

    def __getattr__(name: str) -> Any:
        """Import a step when it is first asked for: `--help` should not wait for torch."""
        if name not in STEPS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its steps are {', '.join(STEPS)}")
        from shared.step import step

        globals()[name] = found = step(getattr(import_module(f"{__name__}.{STEPS[name]}"), name))
        return found


def __dir__() -> list[str]:
    return __all__
