"""What is parsed from text that others wrote: every such value is a `Frozen`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import BadInput


class Frozen(BaseModel):
    """Strict about types and content, closed to unknown fields, immutable once built."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class JsonFile(Frozen):
    """A value that stands in a JSON file. `what` an error calls it, and the `remedy` for one that cannot be read."""

    what: ClassVar[str]
    remedy: ClassVar[str]
    indent: ClassVar[int | None] = 1

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=self.indent).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `BadInput` naming the field, never its value."""
        with explained(cls.what, cls.remedy):
            return cls.model_validate_json(data)


@contextmanager
def explained(field: str, remedy: str) -> Iterator[None]:
    """Raises `BadInput` for what the body finds of pydantic's, naming the field, never its value."""
    try:
        yield
    except ValidationError as error:
        raise BadInput(describe(error), field=field, remedy=remedy) from None


def describe(error: ValidationError) -> str:
    """The first problem of a pydantic error: where it is, by the names of fields, and what is wrong; never a value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "content"
    said = "is of no kind that is known" if first["type"] == "union_tag_invalid" else first["msg"]
    return f"{place}: {said.removeprefix('Value error, ')}"
