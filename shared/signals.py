"""Signals that stop a program."""

from __future__ import annotations

import signal

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def heard() -> list[signal.Signals]:
    """Those of `STOPPING` that are not ignored, as SIGHUP is under nohup and SIGINT in a shell's background."""
    return [each for each in STOPPING if signal.getsignal(each) is not signal.SIG_IGN]
