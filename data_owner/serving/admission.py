"""How often each identity may call: a token bucket for each, and no more buckets than the limit."""

from __future__ import annotations

import threading
from collections import OrderedDict

from data_owner.serving.token_bucket import TokenBucket
from shared.limits import LIMITS


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
