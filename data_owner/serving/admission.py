"""How often each identity may call: a token bucket for each, and no more buckets than the limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from shared.limits import LIMITS


@dataclass(frozen=True)
class TokenBucket:
    """So many calls at once, so many a minute after (RFC 2697 section 3 has the same meter).

    `tokens` were left at `at`, a time in seconds on a clock that only rises.
    """

    tokens: float
    at: float

    def take(self, *, a_second: float, burst: float, now: float) -> tuple[TokenBucket, float]:
        """The bucket after asking for one token, and the seconds until there is one: 0 when it was taken."""
        tokens = min(burst, self.tokens + max(0.0, now - self.at) * a_second)
        if tokens >= 1.0:
            return TokenBucket(tokens - 1.0, now), 0.0
        return TokenBucket(tokens, now), (1.0 - tokens) / a_second


class Admission:
    """Shared by threads. The identity longest unheard of is forgotten first; its bucket is likely full again."""

    def __init__(self, at_once: int, a_minute: int) -> None:
        self._at_once, self._a_second = at_once, a_minute / 60
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def seconds_to_wait(self, identity: str, now: float) -> float:
        """0 admits the call; otherwise when to come again. `now` is on the monotonic clock."""
        with self._lock:
            bucket = self._buckets.pop(identity, None) or TokenBucket(self._at_once, now)
            self._buckets[identity], wait = bucket.take(a_second=self._a_second, burst=self._at_once, now=now)
            if len(self._buckets) > LIMITS.identities_counted:
                self._buckets.popitem(last=False)
        return wait
