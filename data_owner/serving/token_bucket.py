"""The token bucket (RFC 2697 section 3 has the same meter): so many calls at once, so many a minute after."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenBucket:
    """`tokens` were left at `at`, a time in seconds on a clock that only rises."""

    tokens: float
    at: float

    def take(self, *, a_second: float, burst: float, now: float) -> tuple[TokenBucket, float]:
        """The bucket after asking for one token, and the seconds until there is one: 0 when it was taken."""
        tokens = min(burst, self.tokens + max(0.0, now - self.at) * a_second)
        if tokens >= 1.0:
            return TokenBucket(tokens - 1.0, now), 0.0
        return TokenBucket(tokens, now), (1.0 - tokens) / a_second
