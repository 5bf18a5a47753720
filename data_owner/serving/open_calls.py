"""The calls in flight on a port: how many, how many of each identity, and an end to those out of time or right."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shared.limits import LIMITS


class Cancellable(Protocol):
    def cancel(self) -> object: ...


@dataclass(eq=False, frozen=True)
class OpenCall:
    """`until` is on the monotonic clock; `permitted` asks anew whether the caller may still be here."""

    identity: str
    until: float
    permitted: Callable[[], bool]
    context: Cancellable


def to_end(calls: list[OpenCall], now: float) -> list[OpenCall]:
    """Those whose time is over or whose caller was sent away."""
    return [call for call in calls if now >= call.until or not call.permitted()]


class OpenCalls:
    """Threads enter and leave; one thread watches while any call is open.

    A call that waits for a peer which neither sends nor reads cannot look at its own clock, so it is cancelled
    from outside.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[OpenCall] = []
        self._watched = False

    def __len__(self) -> int:
        return len(self._calls)

    def enter(self, call: OpenCall) -> str:
        """Empty where it entered; else why not: the identity, or all together, have as many as they may.

        Raises `RuntimeError` where there is no thread to watch it, and nothing is entered.
        """
        with self._lock:
            if sum(other.identity == call.identity for other in self._calls) >= LIMITS.concurrent_calls_an_identity:
                return "concurrency"
            if len(self._calls) >= LIMITS.concurrent_calls:
                return "full"
            if not self._watched:
                threading.Thread(target=self._watch, name="open calls", daemon=True).start()
                self._watched = True  # not before: no call would ever be ended
            self._calls.append(call)
            return ""

    def leave(self, call: OpenCall) -> None:
        with self._lock:
            if call in self._calls:
                self._calls.remove(call)

    def _watch(self) -> None:
        while True:
            time.sleep(LIMITS.watch_seconds)
            with self._lock:
                calls = list(self._calls)
                self._watched = bool(calls)
                if not calls:
                    return
            for call in to_end(calls, time.monotonic()):
                call.context.cancel()
