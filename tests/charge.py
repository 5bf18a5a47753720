"""A process that charges a budget and then draws: run as `python -m tests.charge BUDGET EPSILON [HOW]`.

HOW "wait" holds for a line on standard input before it charges; "stop" kills itself between the charge and the draw.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from data_owner.privacy.accounting import Query, affordable
from data_owner.privacy.budget import Budget
from data_owner.settings import PrivacySettings
from shared.errors import PolicyRefusal


def main(path: Path, epsilon: float, how: str = "") -> int:
    rho = affordable(epsilon, 1e-5)
    query = Query(what="all of it", noise_multiplier=(1.0 / (2.0 * rho)) ** 0.5)
    print("ready", flush=True)
    if how == "wait":
        sys.stdin.readline()
    try:
        charge = Budget(path).charge([query], PrivacySettings(epsilon=epsilon), f"of {os.getpid()}", 0)
    except PolicyRefusal:
        return 1
    if how == "stop":
        os.kill(os.getpid(), signal.SIGKILL)
    Budget(path).keep_result(charge, "0" * 64)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]))
