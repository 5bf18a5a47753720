"""How threads of numeric libraries wait for each other."""

from __future__ import annotations

import os


def let_threads_sleep() -> None:
    """Must run before torch or scikit-learn is imported.

    OpenMP's threads spin while they wait. Where a machine gives less than its cores promise, as under a quota or beside
    other work, they then take the time of those that they wait for. A value that is set is left.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
