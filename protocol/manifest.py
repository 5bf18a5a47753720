"""The manifest: which bytes make a release, what is promised about it and until when."""

from __future__ import annotations

import hashlib
from typing import Literal, Self

from pydantic import Field, model_validator

from protocol.artefacts import PAYLOAD, Artefact
from protocol.canonical_json import Document, Moment, Sha256, Version
from shared.frozen import Frozen
from shared.limits import LIMITS
from shared.schema import PrintableName


class Digest(Frozen):
    """SHA-256 (hex) and exact length, in bytes, of an artefact."""

    sha256: Sha256
    length: int = Field(ge=1, le=LIMITS.artefact_bytes)

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(sha256=hashlib.sha256(data).hexdigest(), length=len(data))


class Manifest(Document):
    """`created` and `expires` are seconds since 1970-01-01 UTC; versions of a node only rise."""

    what = "manifest"

    format: Literal[1] = 1
    node: PrintableName
    version: Version
    created: Moment
    expires: Moment
    schema_id: Sha256
    policy_id: Sha256
    privacy: str = Field(min_length=1, max_length=LIMITS.statement_characters)
    artefacts: dict[Artefact, Digest]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if set(self.artefacts) != set(PAYLOAD):
            raise ValueError("artefacts must be exactly " + ", ".join(PAYLOAD))
        if self.schema_id != self.artefacts[Artefact.SCHEMA].sha256:
            raise ValueError("schema_id is not the digest of the schema")
        if not 0 < self.expires - self.created <= LIMITS.release_days * 86_400:
            raise ValueError(f"expires must follow created by {LIMITS.release_days} days at most")
        return self

    def has_expired(self, now: int) -> bool:
        return now >= self.expires

    def is_from_the_future(self, now: int) -> bool:
        """Whether it was made later than clocks that differ a little explain."""
        return self.created > now + LIMITS.clock_skew_seconds
