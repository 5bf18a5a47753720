"""What a student's file says of its making, from which release and how far it came; and how far it is."""

from __future__ import annotations

import json

from pydantic import ValidationError

from shared.errors import BadInput, VerificationFailure
from shared.generation import Synthesiser, group_shares
from shared.student import Distillation, StudentSettings, measure_student
from shared.tensor_metadata import metadata

RELEASE, DISTANCES = "manifest_sha256", "distillation"


def said_of(distillation: Distillation, manifest_sha256: str) -> dict[str, str]:
    """The metadata of a student that was distilled so from the release of that manifest."""
    return {RELEASE: manifest_sha256, DISTANCES: json.dumps(distillation.model_dump())}


def distillation_of(student: bytes, field: str) -> Distillation:
    """From the bytes of a student. Raises `BadInput` naming `field`, its file; `VerificationFailure` for no
    safetensors."""
    try:
        return Distillation.model_validate_json(str(metadata(student).get(DISTANCES, "")))
    except ValidationError:
        raise BadInput(
            "does not say how the student was distilled", field=field, remedy="run `fair4free distill` again"
        ) from None


def measured_again(synthesiser: Synthesiser, said: Distillation) -> Distillation:
    """The distances of the student that generates, whatever its file says of them; its steps it alone can tell.

    Raises `VerificationFailure` where its weights, all finite, are so large that a distance is not.
    """
    settings, shares = StudentSettings(seed=said.seed), group_shares(synthesiser.schema)
    try:
        return measure_student(synthesiser.student, synthesiser.statistics, shares, settings, said.history)
    except ValidationError:
        raise VerificationFailure(
            "the student makes values that are not finite", field="student", remedy="run `fair4free distill` again"
        ) from None


def distilled_from(student: bytes) -> str | None:
    """The digest of the manifest that a student's file says it was distilled from; None if it says nothing."""
    try:
        return metadata(student).get(RELEASE)
    except VerificationFailure:
        return None
