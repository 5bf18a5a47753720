"""What is parsed from text that others wrote: every such value is a `Frozen`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    """Strict about types and content, closed to unknown fields, immutable once built."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def describe(error: ValidationError) -> str:
    """The first problem of a pydantic error: where it is and what is wrong, without the value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "content"
    return f"{place}: {first['msg']}"
