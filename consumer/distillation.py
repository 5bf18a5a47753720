"""How far a distillation came: the file beside the student, which the audit reports."""

from __future__ import annotations

import json
from typing import Self

from pydantic import Field, ValidationError

from shared.errors import BadInput
from shared.schema import Frozen
from shared.student import Distilled


class Distillation(Frozen):
    """Squared sketch distances on held-out frequencies: of the student, of what it had to beat, and over its steps."""

    distance: float
    gaussian_distance: float
    prior_distance: float
    history: tuple[tuple[int, float], ...] = Field(min_length=1)

    @classmethod
    def from_bytes(cls, data: bytes, field: str) -> Self:
        """Raises `BadInput` naming `field`, the file."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            raise BadInput(
                "does not say how the student was distilled", field=field, remedy="run `fair4free distill`"
            ) from None


def to_bytes(distilled: Distilled) -> bytes:
    """All that was distilled but the student."""
    return json.dumps({name: getattr(distilled, name) for name in Distillation.model_fields}).encode()
