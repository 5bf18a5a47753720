"""How far a distillation came: the student's file says so itself, and the audit reports it."""

from __future__ import annotations

import json
from typing import Self

from pydantic import Field, ValidationError

from shared.errors import BadInput, VerificationFailure
from shared.schema import Frozen
from shared.tensor_metadata import metadata

RELEASE, DISTANCES = "manifest_sha256", "distillation"


class Distillation(Frozen):
    """Squared sketch distances on held-out frequencies: of the student, of what it had to beat, and over its steps."""

    distance: float
    gaussian_distance: float
    prior_distance: float
    history: tuple[tuple[int, float], ...] = Field(min_length=1)

    @classmethod
    def of(cls, student: bytes, field: str) -> Self:
        """From the bytes of a student. Raises `BadInput` naming `field`, its file."""
        try:
            return cls.model_validate_json(str(metadata(student).get(DISTANCES, "")))
        except ValidationError:
            raise BadInput(
                "does not say how the student was distilled", field=field, remedy="run `fair4free distill` again"
            ) from None

    def said(self, manifest_sha256: str) -> dict[str, str]:
        """What the student's file says of its making, from the release of that manifest."""
        return {RELEASE: manifest_sha256, DISTANCES: json.dumps(self.model_dump())}


def distilled_from(student: bytes) -> str | None:
    """The digest of the manifest that a student's file says it was distilled from; None if it says nothing."""
    try:
        return metadata(student).get(RELEASE)
    except VerificationFailure:
        return None
