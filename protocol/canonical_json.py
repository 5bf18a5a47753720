"""Canonical JSON (RFC 8785): one meaning, one encoding, so equal documents have equal bytes."""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Self, TypeVar

import rfc8785
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from protocol.refusals import AGAIN, EndlessData, NotCanonical, UnknownField
from shared.errors import VerificationFailure
from shared.frozen import Frozen, describe
from shared.limits import LIMITS

HEX = r"^[0-9a-f]{64}$"
"""A SHA-256 or a raw Ed25519 public key, in hex."""

Sha256 = Annotated[str, Field(pattern=HEX)]

LARGEST_EXACT = 2**53 - 1
"""The largest whole number that every JSON reader reads exactly."""

Moment = Annotated[int, Field(ge=0, le=LIMITS.last_second)]
"""In seconds since 1970-01-01 UTC."""

LAST_VERSION = 2**31 - 1
Version = Annotated[int, Field(ge=1, le=LAST_VERSION)]

Parsed = TypeVar("Parsed")


def encode(document: BaseModel) -> bytes:
    """The canonical bytes of a document."""
    return rfc8785.dumps(document.model_dump(mode="json"))


def parse(model: TypeAdapter[Parsed], data: bytes, field: str, limit: int = LIMITS.manifest_bytes) -> Parsed:
    """Parse foreign bytes, of which only the canonical ones are accepted.

    Raises `EndlessData`, `NotCanonical`, `UnknownField`, or `VerificationFailure` naming the field.
    """
    if len(data) > limit:
        raise EndlessData("more bytes than the limit allows", field=field, remedy=AGAIN)
    try:
        parsed = model.validate_json(data)
    except ValidationError as error:
        kinds = {each["type"] for each in error.errors(include_input=False, include_url=False, include_context=False)}
        if "json_invalid" in kinds:
            raise NotCanonical("not canonical JSON", field=field, remedy=AGAIN) from None
        if "extra_forbidden" in kinds:
            raise UnknownField("a field that is not known", field=field, remedy=AGAIN) from None
        raise VerificationFailure(describe(error), field=field, remedy=AGAIN) from None
    try:
        canonical = rfc8785.dumps(model.dump_python(parsed, mode="json"))
    except rfc8785.CanonicalizationError:
        raise NotCanonical("a value that canonical JSON does not have", field=field, remedy=AGAIN) from None
    if canonical != data:
        raise NotCanonical("not canonical JSON", field=field, remedy=AGAIN)
    return parsed


class Document(Frozen):
    """A document whose canonical bytes are kept, signed or hashed. `what`: what an error calls it."""

    what: ClassVar[str]
    most_bytes: ClassVar[int] = LIMITS.manifest_bytes

    def to_bytes(self) -> bytes:
        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises a `VerificationFailure`: see `parse`."""
        return parse(TypeAdapter(cls), data, cls.what, cls.most_bytes)

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()
