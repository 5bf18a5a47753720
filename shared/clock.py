"""The time of day, read in one place: what decides takes it as a value."""

from __future__ import annotations

from datetime import UTC, datetime


def moment() -> datetime:
    """In UTC, as what deals with certificates takes it."""
    return datetime.now(UTC)


def now() -> int:
    """Whole seconds since 1970-01-01 UTC."""
    return int(moment().timestamp())


def minute(at: int) -> str:
    """As a page says it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
